from __future__ import annotations

import subprocess
import sys

import pytest
import torch.distributed

from scenc import _distributed

VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "SLURM_LOCALID", "JSM_NAMESPACE_RANK")


@pytest.fixture(autouse=True)
def launch(monkeypatch):
    """Set a launcher's variables, and no others."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return lambda **values: [monkeypatch.setenv(*item) for item in values.items()]


def test_alone(launch):
    assert (_distributed.rank(), _distributed.world_size(), _distributed.local_rank()) == (0, 1, 0)
    assert _distributed.is_first()


@pytest.mark.parametrize(
    ("variables", "first", "local"),
    [
        ({"RANK": "8", "LOCAL_RANK": "0"}, False, 0),
        ({"LOCAL_RANK": "0", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}, True, 0),
        ({"SLURM_PROCID": "3", "SLURM_LOCALID": "1"}, False, 1),
    ],
)
def test_before_there_is_a_group_the_launcher_knows(launch, variables, first, local):
    launch(**variables)
    assert (_distributed.is_first(), _distributed.local_rank()) == (first, local)
    # Nothing is shared out between processes that are no group.
    assert (_distributed.rank(), _distributed.world_size()) == (0, 1)


def test_a_group_knows_best(launch, monkeypatch, tmp_path):
    launch(RANK="1")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    try:
        assert _distributed.is_first()
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: 2)
        assert (_distributed.rank(), _distributed.is_first()) == (2, False)
    finally:
        torch.distributed.destroy_process_group()


def test_asking_imports_no_torch():
    asked = "import sys; from scenc._distributed import is_first; is_first(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert "scenc._distributed" in done.stdout.split()
    assert "torch" not in done.stdout.split()
