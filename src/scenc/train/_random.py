"""Random states of a training: of the CPU, and of the one device that a process trains on.

Other devices of the machine are left alone; to ask for their states would start work on them.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from scenc._distributed import rank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning.pytorch import LightningModule, Trainer


class RankSeed(Callback):
    """Seed each rank's draws in the network (dropout) by a number of its own.

    Parameters
    ----------
    seed
        That of the first rank; the others' follow from it.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the CPU and the rank's device."""
        seed = rank_seed(self._seed, rank())
        torch.default_generator.manual_seed(seed)
        device = trainer.strategy.root_device
        if device.type != "cpu":
            # Lightning has made it the current one.
            torch.get_device_module(device).manual_seed(seed)


def rank_seed(seed: int, of_rank: int) -> int:
    """Return the seed of one rank: of the first, that of a training without others."""
    if of_rank == 0:
        return seed
    return int(np.random.SeedSequence([seed % 2**63, of_rank]).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def kept_random_state(device: torch.device | None) -> Iterator[None]:
    """Restore afterwards the random states of the CPU and of a device; ``None``: the CPU's only."""
    if device is None or device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            yield
    else:
        with torch.random.fork_rng(devices=[device], device_type=device.type):
            yield


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the random states of the CPU and of a device."""
    own = None
    if device.type != "cpu":
        own = torch.get_device_module(device).get_rng_state(device)
    return {"cpu": torch.get_rng_state(), "device": own}


def set_random_state(device: torch.device, state: dict[str, Any]) -> None:
    """Set the random states that `random_state` has returned."""
    torch.set_rng_state(state["cpu"])
    if device.type != "cpu" and state["device"] is not None:
        torch.get_device_module(device).set_rng_state(state["device"], device)
