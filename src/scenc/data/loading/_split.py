"""Which cells are trained on, which choose the best weights, and which are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

type Split = Literal["train", "validation", "test"]

LEFT_OUT, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
ROLES: dict[str, int] = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
# A whole group may make a held-out part larger than asked for by this much.
_EXCESS = 1.25


def split_cells(
    usable: NDArray[np.bool_],
    groups: NDArray[np.int64] | None,
    validation_size: float,
    test_size: float,
    seed: int,
) -> NDArray[np.int8]:
    """Give every cell a role.

    Parameters
    ----------
    usable
        Which cells may have one, shape ``(n_cells,)``.
    groups
        Group of each cell, -1 for none; a group stays together. ``None``: each cell by itself.
    validation_size, test_size
        Shares of the cells. A share above 0 is at least one cell or group.
    seed
        Seed of the choice.

    Returns
    -------
    The roles, shape ``(n_cells,)``; -1 for cells without.

    Raises
    ------
    ValueError
        There are too few cells or groups.
    """
    roles = np.where(usable, np.int8(TRAIN), np.int8(LEFT_OUT))
    rng = np.random.default_rng(seed)
    parts = [(VALIDATION, validation_size), (TEST, test_size)]
    parts = [(role, share) for role, share in parts if share > 0]
    if groups is None:
        order = rng.permutation(np.flatnonzero(usable))
        _require(len(order), len(parts), "cells with counts")
        taken = 0
        for role, share in parts:
            n = min(max(1, round(share * len(order))), len(order) - taken - 1)
            roles[order[taken : taken + n]] = role
            taken += n
        return roles
    sizes = np.bincount(groups[usable & (groups >= 0)], minlength=int(groups.max(initial=-1)) + 1)
    left = [int(group) for group in rng.permutation(len(sizes)) if sizes[group]]
    _require(len(left), len(parts), "groups to split by")
    total = int(sizes.sum())
    for k, (role, share) in enumerate(parts):
        most = len(left) - (len(parts) - k)
        chosen = _choose(left, sizes, share * total, most)
        roles[usable & np.isin(groups, chosen)] = role
        left = [group for group in left if group not in chosen]
    return roles


def _choose(left: list[int], sizes: NDArray[np.int64], target: float, most: int) -> list[int]:
    """Take groups in their random order as long as they fit; the smallest if none does."""
    chosen: list[int] = []
    total = 0
    for group in left:
        if total >= target or len(chosen) == most:
            break
        if total + sizes[group] <= _EXCESS * target:
            chosen.append(group)
            total += int(sizes[group])
    return chosen or [min(left, key=lambda group: sizes[group])]


def _require(n: int, n_parts: int, what: str) -> None:
    if n < n_parts + 1:
        raise ValueError(
            f"Training and {n_parts} held-out part(s) need at least {n_parts + 1} {what}; "
            f"there are {n}. Set validation_size and test_size to 0, or split by something else."
        )
