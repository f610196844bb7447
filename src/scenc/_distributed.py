"""Which process this is of those that train together.

PyTorch is not imported here: without it there is no group of processes.
"""

from __future__ import annotations

import os
import sys
from typing import Any

# Where launchers say which process this is, in the order in which Lightning asks them. SLURM's is
# also set in processes that SLURM started for something else.
_RANK = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
_LOCAL_RANK = ("LOCAL_RANK", "SLURM_LOCALID")


def rank() -> int:
    """Number of this process in PyTorch's process group; 0 without one."""
    group = _group()
    return group.get_rank() if group else 0


def world_size() -> int:
    """Number of processes of PyTorch's process group; 1 without one."""
    group = _group()
    return group.get_world_size() if group else 1


def is_first() -> bool:
    """Whether this process is to do what one of them does for all.

    Lightning makes the process group when training starts; before that the launcher knows.
    """
    return (rank() if _group() else _launched_as(_RANK)) == 0


def local_rank() -> int:
    """Number of this process among those of its computer, by its launcher; 0 without one."""
    return _launched_as(_LOCAL_RANK)


def _group() -> Any:
    """Return `torch.distributed` if there is a process group."""
    distributed: Any = sys.modules.get("torch.distributed")
    exists = distributed and distributed.is_available() and distributed.is_initialized()
    return distributed if exists else None


def _launched_as(names: tuple[str, ...]) -> int:
    return int(next((os.environ[name] for name in names if name in os.environ), 0))
