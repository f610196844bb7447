from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals
from tqdm.auto import tqdm

from scenc._arguments import choose
from scenc.data.counts import describe_small_batches
from scenc.data.files._file_reader import FileReader
from scenc.data.files._file_report import CellFilesError, FilesReport
from scenc.data.files._scan import check_only, compare_genes, scan_file
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
from scenc.genes import harmonize

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from scenc.genes import GeneMatch


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
    feature_types
        Kinds of features to take as genes, by the column ``feature_types`` of var, or ``"all"``;
        ``None``: genes, and neither antibodies, hashtags, guides nor peaks. What is no gene counts
        neither as a gene nor for the library size.
    genes
        The vocabulary: genes of any file (``"union"``), of all files (``"intersection"``), or a
        list. Genes are matched by `scenc.genes`, whichever names a file uses.
    batch_key, labels_key
        Columns of obs with batches and labels; recorded, and not used by the network. Values are
        compared as names across files: ``1``, ``1.0`` and ``"1"`` are one batch. Labels may be
        missing, batches may not.
    only
        Columns of obs and the values whose cells are used, such as ``{"in_tissue": [1]}``; values
        are compared as names. A file without the column is used as a whole.
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
        An argument is out of range, `only` names a column that no file has or leaves no cell, or
        there are too few cells or groups to split.

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
        feature_types: str | Sequence[str] | None = None,
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
        self._setup_args = {
            "layer": named,
            "gene_ids": gene_ids,
            "feature_types": feature_types,
        }
        self._chunk_size, self._buffer_size = chunk_size, buffer_size
        self._num_workers, self._prefetch = num_workers, prefetch
        self.seed = seed
        require_sizes(batch_size, chunk_size, buffer_size, validation_size, test_size)
        column = None if split_by in ("cell", "file") else split_by
        keys = list(dict.fromkeys(k for k in (batch_key, labels_key, column) if k is not None))
        self._scanned = [
            scan_file(
                path,
                of_file,
                gene_ids,
                keys,
                lists(only),
                thorough(check),
                batch_key=batch_key,
                feature_types=feature_types,
            )
            for path, of_file in zip(
                tqdm(self.paths, "looking into files", unit="file", disable=not progress),
                layers_of(layer, self.paths),
                strict=True,
            )
        ]
        self._n_cells = np.array([file.n_cells for file in self._scanned])
        vocabulary = self._choose_vocabulary(genes)
        matches = match_all([file.genes for file in self._scanned], vocabulary)
        if isinstance(genes, str):
            compare_genes(self._scanned, matches)
        self._line_up(vocabulary, matches)
        if isinstance(genes, str):
            for caution in harmonize(vocabulary).cautions:
                warnings.warn(f"{caution}.", UserWarning, stacklevel=2)
        self._columns = {
            key: union_categoricals(
                [file.columns[key] for file in self._scanned], sort_categories=True
            )
            for key in keys
        }
        if feature_types not in (None, "all"):
            self._require_feature_types(feature_types)
        check_only(lists(only), self._scanned)
        if batch_key is not None:
            self._report_batches(batch_key)
        used = np.concatenate([file.used & file.filled for file in self._scanned])
        groups = None if split_by == "cell" else self._groups(column, used)
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
        self._line_up(vocabulary, match_all([f.genes for f in self._scanned], vocabulary), counted)

    def _line_up(
        self,
        vocabulary: pd.Index[str],
        matches: list[GeneMatch],
        counted: Sequence[str] | pd.Index[str] = (),
    ) -> None:
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
        self.gene_maps = maps
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

    def _require_feature_types(self, feature_types: Any) -> None:
        """Refuse kinds of features for files none of which says which it has."""
        if not any(file.has_feature_types for file in self._scanned):
            raise ValueError(
                f"feature_types={feature_types!r} needs the column 'feature_types', which no file "
                "has in var."
            )

    def _report_batches(self, key: str) -> None:
        """Warn of batches that have too few cells to learn from."""
        text = describe_small_batches(self._columns[key], key)
        if text is not None:
            warnings.warn(text, UserWarning, stacklevel=3)

    def _choose_vocabulary(self, genes: str | Sequence[str]) -> pd.Index[str]:
        if not isinstance(genes, str):
            return pd.Index(list(genes))
        choose(genes, ("union", "intersection"), "genes (unless it is a list)")
        lists = [file.genes for file in self._scanned if not file.problems.errors]
        vocabulary = build_vocabulary(lists, cast("Any", genes))
        if lists and not len(vocabulary):
            raise ValueError("No gene is in all files. Use genes='union', or a list of genes.")
        return vocabulary

    def _groups(self, column: str | None, used: NDArray[np.bool_]) -> NDArray[np.int64]:
        if column is None:
            return np.repeat(np.arange(len(self.paths)), self._n_cells)
        codes: NDArray[np.int64] = self._columns[column].codes.astype(np.int64)
        n_missing = int((used & (codes < 0)).sum())
        if n_missing:
            warnings.warn(
                f"{n_missing:,} cells have no value in obs[{column!r}], which is split by: they "
                "are trained on, and may belong with cells that are held out.",
                UserWarning,
                stacklevel=3,
            )
        return codes
