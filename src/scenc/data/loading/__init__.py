"""Which cells make up each batch, in which order they are read, and the threads that do it."""

from scenc.data.loading._arguments import (
    file_weights,
    layers_of,
    lists,
    paths,
    require_sizes,
    thorough,
)
from scenc.data.loading._buffer import Buffer, CellReader
from scenc.data.loading._datamodule import CellModule
from scenc.data.loading._dataset import MemoryDataset, TokenDataset
from scenc.data.loading._loader import BatchLoader
from scenc.data.loading._read_order import FileOrder, ReadOrder, ShuffledOrder
from scenc.data.loading._samplers import LoadRequest, OrderedRequests, Request, ShuffledRequests
from scenc.data.loading._split import ROLES, SPLITS, TRAIN, Split, split_cells

__all__ = [
    "BatchLoader",
    "Buffer",
    "CellModule",
    "CellReader",
    "FileOrder",
    "LoadRequest",
    "MemoryDataset",
    "OrderedRequests",
    "ROLES",
    "ReadOrder",
    "Request",
    "SPLITS",
    "ShuffledOrder",
    "ShuffledRequests",
    "Split",
    "TRAIN",
    "TokenDataset",
    "file_weights",
    "layers_of",
    "lists",
    "paths",
    "require_sizes",
    "split_cells",
    "thorough",
]
