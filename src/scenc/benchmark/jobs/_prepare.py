"""Data as jobs read them: counts, gene names, batches and labels, under their fingerprint."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scenc._arguments import choose
from scenc.benchmark.entries._fingerprint import counts_fingerprint, digest, groups_fingerprint
from scenc.benchmark.entries._sets import source_name
from scenc.io import read_anndata, read_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anndata import AnnData
    from numpy.typing import NDArray

    from scenc.benchmark.entries._sets import AnnDataOrPath, EvaluationSet, TrainingSet
    from scenc.data.counts import Csr

    type Keep = Callable[[str, AnnData], object]

BATCH, LABEL = "batch", "label"


@dataclass(frozen=True, eq=False)
class Prepared:
    """Facts about cells that were read, checked and kept on disk.

    Attributes
    ----------
    counts
        Fingerprint of the counts and gene names.
    content
        Fingerprint of those, batches and labels: the name of the file.
    n_cells, n_genes, n_batches, n_labels
        Their numbers; ``n_cells`` and ``n_genes`` are None where the file is not there yet.
    genes_per_cell
        Number of expressed genes of each cell, shape ``(n_cells,)``.
    genes
        Their names, shape ``(n_genes,)``.
    """

    counts: str
    content: str
    n_cells: int | None
    n_genes: int | None
    n_batches: int
    n_labels: int
    genes_per_cell: NDArray[np.int64]
    genes: pd.Index[str]

    @property
    def facts(self) -> dict[str, Any]:
        """Numbers of cells, genes, batches and labels."""
        return {
            "n_cells": self.n_cells,
            "n_genes": self.n_genes,
            "n_batches": self.n_batches,
            "n_labels": self.n_labels,
        }


def prepare_evaluation(given: EvaluationSet, name: str, keep: Keep) -> Prepared:
    """Read, check and keep an evaluation set.

    Parameters
    ----------
    given, name
        The set.
    keep
        Is given the fingerprint and the cells, counts as canonical CSR in X, ``batch`` and
        ``label`` (where there are any) in obs.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError
        The data cannot be used; the message names the set and the reason.
    """
    columns = {LABEL: given.label_key, BATCH: given.batch_key}
    where = f"evaluation set {name!r} ({source_name(given.data)})"
    return _kept(_read(given.data, given.layer, given.gene_ids, columns, where), keep)


def prepare_training(given: TrainingSet, keep: Keep) -> Prepared:
    """Read, check, join and keep training data; as `prepare_evaluation`."""
    names = [source_name(source, i) for i, source in enumerate(given.sources)]
    if len(set(names)) < len(names):
        names = [f"{name} ({i + 1})" for i, name in enumerate(names)]
    columns = {BATCH: given.batch_key}
    parts = [
        _read(source, given.layer, given.gene_ids, columns, f"training data {name}")
        for source, name in zip(given.sources, names, strict=True)
    ]
    return _kept(parts[0] if len(parts) == 1 else _join(parts, names), keep)


def not_there(n_cells: int | None) -> Prepared:
    """Stand in for data that are not there yet, where only estimates are asked for."""
    return Prepared("", "", n_cells, None, 0, 0, np.zeros(0, np.int64), pd.Index([], dtype=str))


def require_shared_genes(training: Prepared, evaluation: Mapping[str, Prepared]) -> None:
    """Refuse evaluation sets whose genes a model of the training data could not know.

    Parameters
    ----------
    training, evaluation
        The data; those that are not there yet are passed over.

    Raises
    ------
    ValueError
        Naming each set that shares too few genes, and how many it shares.
    """
    from scenc.data.counts import describe_low_coverage
    from scenc.genes import match

    if not len(training.genes):
        return
    reasons = {
        name: describe_low_coverage(match(given.genes, training.genes))
        for name, given in evaluation.items()
        if len(given.genes)
    }
    wrong = [f"{name!r}: {reason}" for name, reason in reasons.items() if reason is not None]
    if wrong:
        raise ValueError(
            "Evaluation sets share too few genes with the training data, whose genes are the "
            f"vocabulary (another species, or another kind of names?): {'; '.join(wrong)}."
        )


def _kept(adata: AnnData, keep: Keep) -> Prepared:
    counts = counts_fingerprint(adata.X, adata.var_names)
    content = digest([counts, groups_fingerprint(adata.obs)])
    keep(content, adata)
    n_groups = {
        name: int(adata.obs[name].nunique()) if name in adata.obs else 0 for name in (BATCH, LABEL)
    }
    return Prepared(
        counts, content, adata.n_obs, adata.n_vars, n_groups[BATCH], n_groups[LABEL],
        np.diff(adata.X.indptr).astype(np.int64), adata.var_names.astype(str),
    )  # fmt: skip


def _read(
    source: AnnDataOrPath,
    layer: str | None,
    gene_ids: str | None,
    columns: dict[str, str | None],
    where: str,
) -> AnnData:
    """Return a new AnnData with nothing but counts, genes and the columns asked for."""
    from anndata import AnnData

    from scenc.data.counts import inspect_counts
    from scenc.genes import flag_genes

    adata = _open(source, where)
    if layer == "raw" and "raw" not in adata.layers:
        adata, layer = _with_raw(adata), None
    try:
        _, genes, _ = inspect_counts(adata, layer, gene_ids)
        _, left_out = flag_genes(adata.var, None, "var")
        obs = _columns(adata, columns)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: {error.args[0] if error.args else error}") from error
    matrix = _canonical(adata.X if layer is None else adata.layers[layer])
    if left_out is not None:
        warnings.warn(f"{where}: {left_out}", UserWarning, stacklevel=2)
    is_gene = np.asarray(genes != "")
    var = pd.DataFrame(index=genes[is_gene].to_numpy(dtype=object))
    return AnnData(X=matrix if is_gene.all() else matrix[:, is_gene], obs=obs, var=var)


def _open(source: AnnDataOrPath, where: str) -> AnnData:
    import anndata

    if not isinstance(source, str | PathLike):
        if not isinstance(source, anndata.AnnData):
            raise TypeError(
                f"{where} is a {type(source).__name__}; give an AnnData or the path of a file of "
                "cells."
            )
        return source.to_memory() if source.isbacked else source
    try:
        return read_anndata(source)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{where}: {error}") from error
    except Exception as error:
        raise ValueError(f"{where}: it cannot be read: {error}") from error


def _with_raw(adata: AnnData) -> AnnData:
    """Return the cells with what ``adata.raw`` holds in X, or as they are if they have no raw."""
    from anndata import AnnData

    if adata.raw is None:
        return adata
    return AnnData(X=adata.raw.X, obs=adata.obs, var=adata.raw.var)


def _columns(adata: AnnData, columns: dict[str, str | None]) -> pd.DataFrame:
    obs = pd.DataFrame(index=pd.RangeIndex(adata.n_obs).astype(str))
    for name, column in columns.items():
        if column is None:
            continue
        if column not in adata.obs:
            choose(column, list(adata.obs), f"obs has no such column; the {name} key")
        groups = read_groups(adata.obs, column, "obs").remove_unused_categories()
        if not len(groups.categories):
            raise ValueError(f"obs[{column!r}] holds no {name}: all its values are missing.")
        obs[name] = groups
    return obs


def _canonical(matrix: Any) -> Csr:
    """Return counts as float32 CSR, columns in order, without zeros or entries that stand twice."""
    if not sp.issparse(matrix) and not isinstance(matrix, np.ndarray):
        matrix = matrix.to_memory() if hasattr(matrix, "to_memory") else np.asarray(matrix)
    csr = sp.csr_matrix(matrix, dtype=np.float32, copy=True)
    csr.sum_duplicates()
    csr.eliminate_zeros()
    return csr


def _join(parts: list[AnnData], names: list[str]) -> AnnData:
    """Return all cells over the union of genes, each gene under one name."""
    import anndata

    joined = anndata.concat(
        {str(i): _harmonised(part) for i, part in enumerate(parts)},
        join="outer",
        fill_value=0,
        index_unique="-",
    )
    if BATCH in parts[0].obs:
        texts = np.concatenate(
            [
                [f"{name}: {batch}" for batch in part.obs[BATCH].astype(str)]
                for part, name in zip(parts, names, strict=True)
            ]
        )
    else:
        texts = np.repeat(names, [part.n_obs for part in parts])
    obs = pd.DataFrame(index=pd.RangeIndex(joined.n_obs).astype(str))
    obs[BATCH] = pd.Categorical(texts.astype(object))
    var = pd.DataFrame(index=joined.var_names.to_numpy(dtype=object))
    return anndata.AnnData(X=_canonical(joined.X), obs=obs, var=var)


def _harmonised(part: AnnData) -> AnnData:
    """Return the counts by canonical gene, adding up columns that mean the same one."""
    from anndata import AnnData

    from scenc.genes import harmonize

    canonical = harmonize(part.var_names).canonical.astype(str)
    genes, positions = np.unique(canonical, return_inverse=True)
    n_columns = len(canonical)
    ones = np.ones(n_columns, np.float32)
    merge = sp.csr_matrix((ones, (np.arange(n_columns), positions)), (n_columns, len(genes)))
    return AnnData(X=sp.csr_matrix(part.X @ merge), var=pd.DataFrame(index=genes.astype(object)))
