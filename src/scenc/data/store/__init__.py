"""Cells of a zarr store that annbatch reads."""

from scenc.data.store._build import CARD, build_store
from scenc.data.store._cell_store import CellStore

__all__ = [
    "CARD",
    "CellStore",
    "build_store",
]
