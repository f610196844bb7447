from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from scenc.data.files import map_genes
from scenc.data.loading import ROLES, SPLITS, CellModule, require_sizes
from scenc.data.store._annbatch import StoreReader, annbatch
from scenc.data.store._build import CARD, FORMAT, PATH, ROW, VERSION
from scenc.data.tokens import Tokenizer
from scenc.genes import match
from scenc.io import read_column, read_groups

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray


class CellStore(CellModule):
    """Cells of a store that `build_store` wrote, read while they are trained on.

    It is used as `CellFiles` is, and faster to read: cells are shuffled already, and annbatch reads
    many pieces at a time. Which cells are trained on and which held out was said when it was built.

    Parameters
    ----------
    path
        The store.
    batch_size
        Cells per batch and rank; ``None``: 64, or as many as a model that trains on it wants.
    chunk_size
        Neighbouring cells that are read together; they are no more alike than others.
    buffer_size
        Cells that are shuffled together, of all ranks.
    tokenizer
        How cells become tokens; a model brings its own.
    num_workers
        Threads that make tokens, beside the one that reads.
    prefetch
        Batches that are made ahead.
    seed
        Seed of the order and of all draws.

    Attributes
    ----------
    vocabulary
        The genes.
    paths
        The files that the cells are from.

    Raises
    ------
    FileNotFoundError
        There is no such store.
    ValueError
        It is damaged or no store of scenc, or an argument is out of range.
    ImportError
        annbatch is not installed.

    Examples
    --------
    >>> cells = scenc.data.CellStore("atlas.zarr", batch_size=256)
    >>> for batch in cells.train_dataloader():
    ...     ...
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        batch_size: int | None = None,
        chunk_size: int = 128,
        buffer_size: int = 16_384,
        tokenizer: Tokenizer | None = None,
        num_workers: int = 2,
        prefetch: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        annbatch()
        require_sizes(batch_size, chunk_size, buffer_size, 0.0, 0.0)
        self.path = Path(path)
        card = read_card(self.path)
        self.paths = card["files"]
        self.batch_key, self.labels_key = card["batch_key"], card["labels_key"]
        self.batch_size = batch_size
        self.tokenizer = tokenizer or Tokenizer()
        self.seed = seed
        self._chunk_size, self._buffer_size = chunk_size, buffer_size
        self._num_workers, self._prefetch = num_workers, prefetch
        self._setup_args = {"layer": None, "gene_ids": None}
        self._weights = None
        self._measured = card["measured"]
        self._stored = pd.Index(card["vocabulary"])
        sizes = [(split, n) for split in SPLITS for n in card["sizes"][split]]
        self._n_cells = np.array([n for _, n in sizes])
        self.roles = np.repeat([ROLES[split] for split, _ in sizes], self._n_cells).astype(np.int8)
        self._groups = _open_groups(self.path, card["sizes"])
        self._columns = {key: self._read_column(key) for key in card["columns"]}
        self.use_vocabulary(self._stored)

    def use_vocabulary(
        self, genes: Sequence[str] | pd.Index[str], counted: Sequence[str] | pd.Index[str] = ()
    ) -> None:
        """Line the store up with another vocabulary, such as that of a model.

        Parameters
        ----------
        genes
            The genes.
        counted
            Further genes, which count in a cell's library size only.

        Raises
        ------
        ValueError
            No gene is shared.
        """
        vocabulary = pd.Index(genes).astype(str)
        matched = match(self._stored, vocabulary)
        if not matched.n_matched:
            raise ValueError(f"{self.path} shares no gene with the vocabulary. {matched}")
        self.vocabulary = vocabulary
        self._positions = matched.positions.astype(np.int64)
        gene_map = map_genes(self._stored, matched, counted)
        self._reader = StoreReader(self._groups, self._n_cells, gene_map, len(vocabulary))

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Which genes each file has at all, shape ``(n_files, n_genes)``."""
        measured = np.zeros((len(self.paths), self.n_vars), bool)
        for file, genes in enumerate(self._measured):
            positions = self._positions[genes]
            measured[file, positions[positions >= 0]] = True
        return measured

    def origin(self, cells: NDArray[np.int64]) -> pd.DataFrame:
        """Return which file each cell is from, and which row it was there.

        Parameters
        ----------
        cells
            Numbers of cells, such as `TokenBatch.cells`.

        Returns
        -------
        The columns ``src_path`` and ``src_row``.
        """
        rows = np.concatenate([read_column(group["obs"], ROW, "obs") for group in self._groups])
        return pd.DataFrame({PATH: self._read_column(PATH)[cells], ROW: rows[cells]})

    def _read_column(self, key: str) -> pd.Categorical:
        columns = [read_groups(group["obs"], key, "obs") for group in self._groups]
        return union_categoricals(columns, sort_categories=True)


def read_card(path: Path) -> dict[str, Any]:
    """Read and check what a store says of itself.

    Raises
    ------
    FileNotFoundError
        There is no such store.
    ValueError
        It is damaged, or no store of scenc.
    """
    file = path / CARD
    if not file.is_file():
        raise FileNotFoundError(f"{path} is no store of scenc: it has no {CARD}.")
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: {error}.") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ValueError(f"{file} does not describe a store of scenc.")
    if card.get("version") != VERSION:
        raise ValueError(f"{file} is of version {card.get('version')!r}; {VERSION} is read.")
    try:
        _check_card(card)
    except (KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"{file} is damaged: {error}.") from None
    return card


def _check_card(card: dict[str, Any]) -> None:
    for key in ("files", "vocabulary", "columns"):
        if not isinstance(card[key], list) or not all(isinstance(v, str) for v in card[key]):
            raise TypeError(f"{key} are no list of names")
    if len(set(card["vocabulary"])) != len(card["vocabulary"]):
        raise TypeError("a gene stands twice in the vocabulary")
    for key in ("batch_key", "labels_key"):
        if card[key] is not None and card[key] not in card["columns"]:
            raise TypeError(f"{key} is no column")
    for split in SPLITS:
        if not _are_numbers(card["sizes"][split], 2**62):
            raise TypeError(f"the sizes of {split} are no numbers")
    measured = card["measured"]
    if len(measured) != len(card["files"]) or not all(
        _are_numbers(genes, len(card["vocabulary"])) for genes in measured
    ):
        raise TypeError("measured does not name genes of each file")


def _are_numbers(values: Any, end: int) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < end for v in values)


def _open_groups(path: Path, sizes: dict[str, list[int]]) -> list[Any]:
    """Open the data sets, which must be as large as the store says."""
    import zarr

    groups = []
    for split in SPLITS:
        for number, n_cells in enumerate(sizes[split]):
            name = f"{split}/dataset_{number}"
            try:
                group: Any = zarr.open_group(path / name, mode="r")
                n_found = int(group["X"].attrs["shape"][0])
            except (OSError, KeyError, ValueError) as error:
                raise ValueError(f"{path} is damaged: {name}: {error}.") from None
            if n_found != n_cells:
                raise ValueError(f"{path} is damaged: {name} has {n_found} cells, not {n_cells}.")
            groups.append(group)
    return groups
