from __future__ import annotations

import pytest
import torch.distributed


@pytest.fixture
def as_rank(monkeypatch):
    """Have PyTorch say that this process is one of several."""

    def become(rank, world_size):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: world_size)

    return become
