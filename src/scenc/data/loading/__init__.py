"""Which cells make up each batch, in which order they are read, and the threads that do it."""

from scenc.data.loading._arguments import (
    file_weights,
    layer_of,
    lists,
    paths,
    require_sizes,
    thorough,
)
from scenc.data.loading._buffer import Window, WindowReader
from scenc.data.loading._cell_loader import CellLoader
from scenc.data.loading._datamodule import CellModule
from scenc.data.loading._dataset import BatchLoader, TokenDataset, batch_loader
from scenc.data.loading._read_order import OrderedPlan, Plan, ShuffledPlan, WindowPlan
from scenc.data.loading._samplers import OrderedRequests, Request, ShuffledRequests
from scenc.data.loading._split import ROLES, SPLITS, TRAIN, Split, split_cells

__all__ = [
    "BatchLoader",
    "CellLoader",
    "CellModule",
    "OrderedPlan",
    "OrderedRequests",
    "Plan",
    "ROLES",
    "Request",
    "SPLITS",
    "ShuffledPlan",
    "ShuffledRequests",
    "Split",
    "TRAIN",
    "TokenDataset",
    "Window",
    "WindowPlan",
    "WindowReader",
    "batch_loader",
    "file_weights",
    "layer_of",
    "lists",
    "paths",
    "require_sizes",
    "split_cells",
    "thorough",
]
