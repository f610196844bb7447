"""Two views of a cell, or of a cell and its neighbour in another batch."""

from scenc.data.views._thin import thin
from scenc.data.views._views import CellCounts, FileViews, Neighborhoods, ViewBatch, ViewDataset

__all__ = [
    "CellCounts",
    "FileViews",
    "Neighborhoods",
    "ViewBatch",
    "ViewDataset",
    "thin",
]
