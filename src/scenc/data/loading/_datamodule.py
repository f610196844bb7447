"""Base of the datamodules `CellFiles` and `CellStore`: roles of cells, and loaders of them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from lightning.pytorch import LightningDataModule

from scenc._arguments import choose
from scenc._distributed import rank, world_size
from scenc.data.loading._buffer import FileTokens
from scenc.data.loading._loader import BatchLoader
from scenc.data.loading._read_order import Chunks, FileOrder, FileSampler, ShuffledOrder
from scenc.data.loading._registry import make_registry
from scenc.data.loading._split import ROLES, TRAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from scenc.data.loading._buffer import Buffer, CellReader
    from scenc.data.loading._loader import BatchReader
    from scenc.data.loading._read_order import ReadOrder
    from scenc.data.loading._samplers import LoadRequest
    from scenc.data.loading._split import Split
    from scenc.data.tokens import TokenBatch, Tokenizer

    type MakeReader = Callable[[CellReader], BatchReader[Any]]

_BATCH_SIZE = 64
# Batches whose cells are put in the order of their length, where they are not shuffled.
_N_SORTED = 32


class CellModule(LightningDataModule):
    """Cells that have roles, and a way to read them.

    Attributes
    ----------
    vocabulary
        The genes.
    paths
        The files that the cells are from.
    roles
        Role of each cell.
    tokenizer
        How cells become tokens.
    batch_size
        Cells per batch and rank; ``None``: 64, or as many as a model that trains on it wants.
    batch_key, labels_key
        Columns of obs with batches and labels.
    seed
        Seed of the order and of all draws.
    pin_memory
        Whether batches are copied to page-locked memory; ``None``: where there is a CUDA device.

    Examples
    --------
    >>> cells = scenc.data.CellFiles(["a.h5ad", "b.h5ad"], batch_key="donor_id")
    >>> isinstance(cells, scenc.data.CellModule)
    True
    >>> cells.n_obs, cells.split_sizes
    (1400, {'train': 1260, 'validation': 140, 'test': 0})
    >>> cells.column("donor_id").categories.tolist()
    ['d1', 'd2']
    """

    vocabulary: pd.Index[str]
    paths: list[str]
    roles: NDArray[np.int8]
    tokenizer: Tokenizer
    batch_size: int | None
    batch_key: str | None
    labels_key: str | None
    _reader: CellReader
    _n_cells: NDArray[np.int64]
    _columns: dict[str, pd.Categorical]
    _setup_args: dict[str, Any]
    _weights: NDArray[np.float64] | None
    _chunk_size: int
    _buffer_size: int
    _num_workers: int
    _prefetch: int
    seed: int
    pin_memory: bool | None = None

    def __str__(self) -> str:
        # Lightning's own asks PyTorch's data sets for their sizes, which files do not have.
        sizes = ", ".join(f"{size:,} for {name}" for name, size in self.split_sizes.items())
        return (
            f"{type(self).__name__} of {self.n_obs:,} cells x {self.n_vars:,} genes in "
            f"{len(self.paths):,} files ({sizes})"
        )

    __repr__ = __str__

    @abstractmethod
    def use_vocabulary(
        self, genes: Sequence[str] | pd.Index[str], counted: Sequence[str] | pd.Index[str] = ()
    ) -> None:
        """Line the cells up with another vocabulary, such as that of a model."""

    @property
    def n_obs(self) -> int:
        """Number of cells of all files."""
        return int(self._n_cells.sum())

    @property
    def n_vars(self) -> int:
        """Number of genes of the vocabulary."""
        return len(self.vocabulary)

    @property
    def split_sizes(self) -> dict[str, int]:
        """Number of cells to train on, to validate on and to leave alone."""
        return {name: int((self.roles == role).sum()) for name, role in ROLES.items()}

    @property
    def registry(self) -> dict[str, Any]:
        """The registry that ``scenc.Model.setup_anndata`` would make of these cells."""
        return make_registry(
            self.vocabulary,
            self.n_obs,
            {"batch": self.batch_key, "labels": self.labels_key},
            self._columns,
            self._setup_args,
        )

    @property
    def keys(self) -> list[str]:
        """Names of the columns of obs that are known."""
        return list(self._columns)

    def column(self, key: str) -> pd.Categorical:
        """Return the batches, labels or groups of all cells.

        Parameters
        ----------
        key
            A column of obs that was named when this was made.

        Raises
        ------
        ValueError
            It was not.
        """
        return self._columns[choose(key, self._columns, "key")]

    def cells_of(self, split: Split) -> NDArray[np.int64]:
        """Return the numbers of the cells of one part; they go on from file to file."""
        return np.flatnonzero(self.roles == ROLES[choose(split, ROLES, "split")])

    def locate(self, cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return which file each cell is in, and which row there.

        Parameters
        ----------
        cells
            Numbers of cells, such as `TokenBatch.cells`.
        """
        return self._reader.locate(cells)

    def chunks(self) -> Chunks:
        """Cut the cells to train on into runs that are read together."""
        return Chunks.of(self._n_cells, self.roles, TRAIN, self._chunk_size)

    def train_dataloader(self, epoch: int = 0, make: MakeReader | None = None) -> BatchLoader[Any]:
        """Return batches to train on, in a new order at each pass.

        Parameters
        ----------
        epoch
            Number of the first epoch.
        make
            Turns the reader of cells into one of batches; ``None``: of `TokenBatch`.
        """
        chunks = self.chunks()

        def order(epoch: int) -> ShuffledOrder:
            return ShuffledOrder(
                chunks,
                self._per_batch,
                self._buffer_size,
                weights=self._weights,
                seed=self.seed,
                epoch=epoch,
                rank=rank(),
                world_size=world_size(),
            )

        return self._loader(order, make or self._tokens(self.tokenizer), epoch=epoch)

    def val_dataloader(self) -> BatchLoader[TokenBatch] | list[BatchLoader[TokenBatch]]:
        """Return batches that choose the best weights, the same at each pass and on each rank."""
        return self.held_out("validation") or []

    def test_dataloader(self) -> BatchLoader[TokenBatch] | list[BatchLoader[TokenBatch]]:
        """Return batches of the cells that are left alone."""
        return self.held_out("test") or []

    def predict_dataloader(self, file: int | None = None) -> BatchLoader[TokenBatch]:
        """Return batches of all cells in the order of the files, nothing masked.

        Among those of some batches, cells of like length share one.

        Parameters
        ----------
        file
            Number of a file, for its cells only.
        """
        begin, end = 0, self.n_obs
        if file is not None:
            ends = np.cumsum(self._n_cells)
            begin, end = int(ends[file] - self._n_cells[file]), int(ends[file])
        tokenizer = replace(self.tokenizer, mask_fraction=0.0)
        return self._ordered(np.arange(begin, end), self._tokens(tokenizer, keep_empty=True))

    def read(self, load: LoadRequest) -> Buffer:
        """Read cells into memory."""
        return self._reader.read(load)

    def counts(self, cells: NDArray[np.int64]) -> sp.csr_array:
        """Read cells into memory altogether.

        Parameters
        ----------
        cells
            Numbers of cells, ascending.

        Returns
        -------
        Cells x genes of the vocabulary, and one column more: what else is in the library size.
        """
        blocks = []
        for start in range(0, len(cells), self._buffer_size):
            rows = self._reader.gather(cells[start : start + self._buffer_size])
            shape = len(rows.indptr) - 1, self.n_vars
            known = sp.csr_array((rows.data, rows.indices, rows.indptr), shape)
            summed = np.asarray(known.sum(axis=1, dtype=np.float64)).ravel()
            sizes = summed if rows.library_sizes is None else rows.library_sizes
            others = sizes - summed
            column = sp.csr_array(others.clip(min=0).astype(np.float32)[:, None])
            blocks.append(sp.hstack([known, column], format="csr"))
        if not blocks:
            return sp.csr_array((0, self.n_vars + 1), dtype=np.float32)
        return sp.vstack(blocks, format="csr")

    @property
    def _per_batch(self) -> int:
        return self.batch_size or _BATCH_SIZE

    def held_out(self, split: Split, make: MakeReader | None = None) -> BatchLoader[Any] | None:
        """Return batches of the cells of one part, the same at each pass; ``None`` without cells.

        Parameters
        ----------
        split
            ``"validation"`` or ``"test"``.
        make
            As in `train_dataloader`.
        """
        cells = self.cells_of(split)
        return self._ordered(cells, make or self._tokens(self.tokenizer)) if len(cells) else None

    def _tokens(self, tokenizer: Tokenizer, keep_empty: bool = False) -> MakeReader:
        return partial(FileTokens, tokenizer=tokenizer, keep_empty=keep_empty)

    def _ordered(self, cells: NDArray[np.int64], make: MakeReader) -> BatchLoader[Any]:
        # Nothing is shuffled here, and more batches beside each other spare no more padding.
        size = min(self._buffer_size, _N_SORTED * self._per_batch)
        order = FileOrder(cells, self._per_batch, size, seed=self.seed)
        return self._loader(lambda _: order, make)

    def _loader(
        self,
        order: Callable[[int], ReadOrder],
        make: MakeReader,
        epoch: int = 0,
    ) -> BatchLoader[Any]:
        return BatchLoader(
            make(self._reader),
            FileSampler(order, epoch),
            num_workers=self._num_workers,
            prefetch=self._prefetch,
            pin_memory=torch.cuda.is_available() if self.pin_memory is None else self.pin_memory,
        )
