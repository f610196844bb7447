"""Counts of cells whose genes are lined up with a model's vocabulary."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from scenc.data import COUNTED, map_genes, open_rows
from scenc.data.counts import describe_low_coverage, inspect_counts
from scenc.genes import match

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scenc.data import CellModule, CountRows
    from scenc.data.counts import Csr
    from scenc.genes import GeneMatch

logger = logging.getLogger(__name__)

# Below this share of the shorter list of genes, a query is warned about.
_WARN_COVERAGE = 0.5
# Genes that a query lacks are warned about if they had more than this share of the counts in
# training (a tenth moves log(1 + x) by a tenth), or are more than this share of the genes, where
# the counts are not known.
_MOST_COUNTS, _MOST_GENES = 0.1, 0.5


@dataclass(frozen=True, slots=True)
class AlignedCounts:
    """Counts of some cells, lined up with a model's vocabulary.

    Attributes
    ----------
    rows
        The counts.
    gene_map
        Vocabulary index of each column, `scenc.data.COUNTED` or `scenc.data.UNKNOWN`.
    n_genes
        Number of non-zero genes of each cell, in the vocabulary or not, ``(n_cells,)``.
    names
        Cell names, ``(n_cells,)``.
    match
        The match of the data's genes with the vocabulary.
    """

    rows: CountRows
    gene_map: NDArray[np.int64]
    n_genes: NDArray[np.int64]
    names: pd.Index[Any]
    match: GeneMatch

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.rows.shape[0]

    def select(self, rows: NDArray[np.int64]) -> AlignedCounts:
        """Read some of the cells into memory."""
        matrix, positions = self.rows.select(rows)
        return replace(
            self,
            rows=open_rows(matrix[positions]),
            n_genes=self.n_genes[rows],
            names=self.names[rows],
        )

    def with_counts(self, counts: Csr) -> AlignedCounts:
        """Take other counts of the same cells and genes, without zeros among the stored values."""
        n_genes = np.diff(counts.indptr).astype(np.int64)
        return replace(self, rows=open_rows(counts), n_genes=n_genes)

    def with_genes(self, kept: NDArray[np.bool_], others: int) -> AlignedCounts:
        """Line the counts up with some of the vocabulary's genes.

        Parameters
        ----------
        kept
            True for the genes of the vocabulary that stay, shape ``(n_vocabulary,)``.
        others
            Value of the gene map for the others: `scenc.data.UNKNOWN` or `scenc.data.COUNTED`.
        """
        place = np.where(kept, np.cumsum(kept) - 1, others)
        known = self.gene_map >= 0
        gene_map = self.gene_map.copy()
        gene_map[known] = place[self.gene_map[known]]
        return replace(self, gene_map=gene_map)


def require_data(data: Any, taker: str, *kinds: type[AnnData | MuData]) -> None:
    """Refuse what is no object of cells, and say what to do with it instead.

    Parameters
    ----------
    data
        What a user has given.
    taker
        What takes it, in the message.
    kinds
        What it may be.

    Raises
    ------
    TypeError
        It is none of them.
    """
    if isinstance(data, kinds):
        if isinstance(data, AnnData) and not isinstance(data.obs, pd.DataFrame):
            raise TypeError(
                f"{taker} takes cells in memory or backed, and these were opened lazily: use "
                "adata.to_memory(), or anndata.read_h5ad(path, backed='r')."
            )
        return
    if isinstance(data, MuData):
        remedy = "Use scenc.Model.setup_mudata, or give one modality: mdata['rna']."
    elif isinstance(data, AnnData):
        remedy = "Use scenc.Model.setup_anndata."
    elif isinstance(data, str | os.PathLike):
        remedy = (
            "Read the file first: scenc.datasets.read_counts(path). (Files too large for memory: "
            "scenc.data.CellFiles, model.embed_files.)"
        )
    elif isinstance(data, pd.DataFrame):
        remedy = "For a table of cells x genes: anndata.AnnData(table)."
    else:
        remedy = "anndata.AnnData(counts, obs=..., var=...) makes one of a matrix."
    names = " or ".join(kind.__name__ for kind in kinds)
    raise TypeError(f"{taker} takes {names}, got {type(data).__name__}. {remedy}")


def rna_of(data: AnnData | MuData, setup_args: dict[str, Any]) -> AnnData:
    """Return the AnnData with the counts: a MuData's modality, or the AnnData itself.

    Raises
    ------
    ValueError
        A MuData lacks the modality.
    TypeError
        The data are neither.
    """
    require_data(data, "This model", AnnData, MuData)
    if not isinstance(data, MuData):
        return data
    modality = (setup_args.get("modalities") or {}).get("rna_layer", "rna")
    if modality not in data.mod:
        raise ValueError(f"mdata has no modality {modality!r} (there: {', '.join(data.mod)}).")
    return data.mod[modality]


def align_anndata(
    adata: AnnData,
    setup_args: dict[str, Any],
    vocabulary: pd.Index[str],
    counted: pd.Index[str],
) -> AlignedCounts:
    """Open an AnnData's counts and line its genes up with a vocabulary, by name.

    Parameters
    ----------
    adata
        The data.
    setup_args
        Arguments of `setup_anndata` or `setup_mudata`.
    vocabulary
        The model's genes.
    counted
        Genes outside the vocabulary whose counts belong to the library size.

    Raises
    ------
    ValueError
        The counts are unusable, or too few genes are in the vocabulary.
    """
    layer = setup_args.get("layer", setup_args.get("rna_layer"))
    rows, genes, check = inspect_counts(
        adata, layer, setup_args.get("gene_ids"), setup_args.get("feature_types")
    )
    matched = match(genes, vocabulary)
    check_coverage(matched)
    gene_map = map_genes(genes, matched, counted)
    return AlignedCounts(rows, gene_map, check.n_genes, adata.obs_names, matched)


def align_streamed(datamodule: CellModule, cells: NDArray[np.int64]) -> AlignedCounts:
    """Read cells of many files into memory, lined up with the datamodule's vocabulary.

    Parameters
    ----------
    datamodule
        The cells' files.
    cells
        Numbers of the cells, ascending.
    """
    counts = datamodule.counts(cells)
    # The last column stands for all other genes that count.
    gene_map = np.append(np.arange(datamodule.n_vars), COUNTED)
    return AlignedCounts(
        rows=open_rows(counts),
        gene_map=gene_map,
        n_genes=np.diff(counts.indptr).astype(np.int64),
        names=pd.Index(cells.astype(str)),
        match=match(datamodule.vocabulary, datamodule.vocabulary),
    )


def streamed_batches(datamodule: CellModule) -> NDArray[np.int64]:
    """Return the experimental batch of each cell of many files, as a number."""
    if datamodule.batch_key is None:
        return np.zeros(datamodule.n_obs, np.int64)
    return np.asarray(datamodule.column(datamodule.batch_key).codes, dtype=np.int64)


def check_depth(
    matched: GeneMatch,
    gene_map: NDArray[np.int64],
    counted: pd.Index[str],
    shares: NDArray[np.float64] | None,
    where: str,
) -> None:
    """Warn of a query without genes that had a good part of the counts in training.

    What they would count is missing in its library sizes, so that all its values are too large.

    Parameters
    ----------
    matched, gene_map
        How the query's genes match the vocabulary, and the gene map of it.
    counted
        Genes outside the vocabulary whose counts belong to the library size.
    shares
        Shares of the training data's counts that the genes of the vocabulary and then of `counted`
        had; ``None``: not known, all genes count alike.
    where
        Name of the query in the message.
    """
    vocabulary = matched.vocabulary
    covered = np.zeros(len(vocabulary) + len(counted), bool)
    covered[matched.positions[matched.positions >= 0]] = True
    others = match(matched.query[gene_map == COUNTED], counted, duplicates="all").positions
    covered[len(vocabulary) + others] = True
    share = float((~covered).mean() if shares is None else shares[~covered].sum())
    if share <= (_MOST_GENES if shares is None else _MOST_COUNTS):
        return
    text = f"{int((~covered).sum()):,} of {len(covered):,} genes that count for the library size"
    if shares is not None:
        text += f", which had {share:.0%} of the counts in training"
    warnings.warn(
        f"{where} lacks {text}: its cells look less deep than they are, and their embeddings move. "
        "Use data with all genes, as before they were cut to variable ones (adata.raw.to_adata()).",
        UserWarning,
        stacklevel=3,
    )


def check_coverage(matched: GeneMatch) -> None:
    """Refuse a query that shares too few genes with the model, warn of one that shares few.

    Raises
    ------
    ValueError
        Too few genes are shared.
    """
    too_few = describe_low_coverage(matched)
    if too_few is not None:
        raise ValueError(f"Too few genes to embed: {too_few}. {matched}")
    n_query, n_vocabulary = matched.n_named, len(matched.vocabulary)
    if matched.n_matched < _WARN_COVERAGE * min(n_query, n_vocabulary):
        warnings.warn(f"Few genes are shared. {matched}", UserWarning, stacklevel=2)
    elif matched.duplicated:
        warnings.warn(f"Genes stand in several columns. {matched}", UserWarning, stacklevel=2)
    elif not matched.n_matched == n_query == n_vocabulary:
        logger.info("%s", matched)
