from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals
from tqdm.auto import tqdm

from scenc._arguments import choose
from scenc.data.files._file_reader import FileReader
from scenc.data.files._file_report import CellFilesError, FilesReport
from scenc.data.files._scan import scan_file
from scenc.data.files._vocabulary import build_vocabulary, map_genes, match_all
from scenc.data.loading import (
    TRAIN,
    CellModule,
    file_weights,
    layers_of,
    lists,
    paths,
    require_sizes,
    split_cells,
    thorough,
)
from scenc.data.tokens import Tokenizer

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray


class CellFiles(CellModule):
    """Cells of many files with different genes, read while they are trained on.

    Nothing is concatenated and no file is read as a whole: memory holds two buffers of
    `buffer_size` cells, however many there are. All files are looked into when the object is
    made, and everything that is wrong with any of them is said at once.

    Parameters
    ----------
    files
        Paths or addresses (``https://...``, ``s3://...``) of .h5ad files and zarr stores. Counts
        may be stored by rows, by columns or dense.
    layer
        ``"X"``, ``"raw"`` or the name of a layer; ``None``: in each file raw if it holds counts,
        else X if that does. A dictionary gives one per file.
    gene_ids
        Column of var with the genes' names; ``None``: var_names.
    genes
        The vocabulary: genes of any file (``"union"``), of all files (``"intersection"``), or a
        list. Genes are matched by `scenc.genes`, whichever names a file uses.
    batch_key, labels_key
        Columns of obs with batches and labels; recorded, and not used by the network.
    only
        Columns of obs and the values whose cells are used, such as ``{"in_tissue": [1]}``. A file
        without the column is used as a whole.
    split_by
        Unit of the split: each ``"cell"``, each ``"file"``, or all cells with one value in a column
        of obs, such as ``"donor_id"``.
    validation_size, test_size
        Shares of the cells that choose the best weights, and that are left alone.
    weights
        How often cells of a file are visited, relative to other files: one number per file,
        ``"equal"`` for as many cells of each file, ``"sqrt"`` for the square root of their numbers;
        ``None``: each cell once an epoch. An epoch has as many visits in any case.
    batch_size
        Cells per batch and rank; ``None``: 64, or as many as a model that trains on it wants.
    chunk_size
        Neighbouring cells that are read together. Smaller chunks mix better, larger ones are faster
        to read from disks that are slow to seek.
    buffer_size
        Cells that are shuffled together, of all ranks.
    tokenizer
        How cells become tokens; a model brings its own.
    num_workers
        Threads that make tokens, beside the one that reads.
    prefetch
        Batches that are made ahead.
    check
        Whether to look at every value of every file (``"all"``) or at some of all over it
        (``"sample"``). In distributed training, only the first process of a computer looks at all.
    seed
        Seed of the split, of the order and of all draws.
    progress
        Whether to show progress.

    Attributes
    ----------
    vocabulary
        The genes.
    report
        The checks of each file; prints as a table.
    paths
        The files.

    Raises
    ------
    CellFilesError
        Some files cannot be used; the message names everything that is wrong with any of them.
    ValueError
        An argument is out of range, or there are too few cells or groups to split.

    Examples
    --------
    >>> cells = scenc.data.CellFiles(["a.h5ad", "b.h5ad"], split_by="donor_id", batch_size=256)
    >>> print(cells.report)
    >>> for batch in cells.train_dataloader():
    ...     ...
    """

    def __init__(
        self,
        files: Iterable[str | os.PathLike[str]],
        *,
        layer: str | Mapping[str, str] | None = None,
        gene_ids: str | None = None,
        genes: Literal["union", "intersection"] | Sequence[str] = "union",
        batch_key: str | None = None,
        labels_key: str | None = None,
        only: Mapping[str, Any] | None = None,
        split_by: str = "cell",
        validation_size: float = 0.1,
        test_size: float = 0.0,
        weights: Literal["equal", "sqrt"] | Sequence[float] | None = None,
        batch_size: int | None = None,
        chunk_size: int = 16,
        buffer_size: int = 16_384,
        tokenizer: Tokenizer | None = None,
        num_workers: int = 2,
        prefetch: int = 4,
        check: Literal["all", "sample"] = "all",
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        super().__init__()
        choose(check, ("all", "sample"), "check")
        self.paths = paths(files)
        self.batch_key, self.labels_key = batch_key, labels_key
        self.batch_size = batch_size
        self.tokenizer = tokenizer or Tokenizer()
        # What names a matrix of a file names no layer of an AnnData.
        named = layer if isinstance(layer, str) and layer not in ("X", "raw") else None
        self._setup_args = {"layer": named, "gene_ids": gene_ids}
        self._chunk_size, self._buffer_size = chunk_size, buffer_size
        self._num_workers, self._prefetch = num_workers, prefetch
        self.seed = seed
        require_sizes(batch_size, chunk_size, buffer_size, validation_size, test_size)
        column = None if split_by in ("cell", "file") else split_by
        keys = list(dict.fromkeys(k for k in (batch_key, labels_key, column) if k is not None))
        self._scanned = [
            scan_file(path, of_file, gene_ids, keys, lists(only), thorough(check))
            for path, of_file in zip(
                tqdm(self.paths, "looking into files", unit="file", disable=not progress),
                layers_of(layer, self.paths),
                strict=True,
            )
        ]
        self._n_cells = np.array([file.n_cells for file in self._scanned])
        self.use_vocabulary(self._choose_vocabulary(genes))
        self._columns = {
            key: union_categoricals(
                [file.columns[key] for file in self._scanned], sort_categories=True
            )
            for key in keys
        }
        used = np.concatenate([file.used & file.filled for file in self._scanned])
        groups = None if split_by == "cell" else self._groups(column)
        self.roles = split_cells(used, groups, validation_size, test_size, seed)
        owners = np.repeat(np.arange(len(self.paths)), self._n_cells)
        trained = np.bincount(owners[self.roles == TRAIN], minlength=len(self.paths))
        self._weights = file_weights(weights, trained)

    def use_vocabulary(
        self, genes: Sequence[str] | pd.Index[str], counted: Sequence[str] | pd.Index[str] = ()
    ) -> None:
        """Line the files up with another vocabulary, such as that of a model.

        Parameters
        ----------
        genes
            The genes.
        counted
            Further genes, which count in a cell's library size only.

        Raises
        ------
        CellFilesError
            A file cannot be used, or shares too few genes.
        """
        vocabulary = pd.Index(genes).astype(str)
        matches = match_all([file.genes for file in self._scanned], vocabulary)
        self.report = FilesReport(
            [file.check(matched) for file, matched in zip(self._scanned, matches, strict=True)],
            len(vocabulary),
        )
        if not self.report.ok:
            raise CellFilesError(self.report)
        self.vocabulary = vocabulary
        self.matches = matches
        maps = [
            map_genes(file.genes, matched, counted)
            for file, matched in zip(self._scanned, matches, strict=True)
        ]
        rows = [file.rows for file in self._scanned if file.rows is not None]
        self._reader = FileReader(rows, maps)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Which genes each file has at all, shape ``(n_files, n_genes)``.

        A count of zero of a gene that is measured is a finding; of one that is not, it is nothing.
        """
        measured = np.zeros((len(self.paths), self.n_vars), bool)
        for file, matched in enumerate(self.matches):
            measured[file, matched.positions[matched.positions >= 0]] = True
        return measured

    def _choose_vocabulary(self, genes: str | Sequence[str]) -> pd.Index[str]:
        if not isinstance(genes, str):
            return pd.Index(list(genes))
        choose(genes, ("union", "intersection"), "genes (unless it is a list)")
        lists = [file.genes for file in self._scanned if not file.problems.errors]
        vocabulary = build_vocabulary(lists, cast("Any", genes))
        if lists and not len(vocabulary):
            raise ValueError("No gene is in all files. Use genes='union', or a list of genes.")
        return vocabulary

    def _groups(self, column: str | None) -> NDArray[np.int64]:
        if column is None:
            return np.repeat(np.arange(len(self.paths)), self._n_cells)
        codes: NDArray[np.int64] = self._columns[column].codes.astype(np.int64)
        return codes
