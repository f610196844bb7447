"""Read and check the counts and gene names of an AnnData."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scenc.data.counts._check import Problems, check_names, check_values
from scenc.data.counts._rows import open_rows
from scenc.genes import flag_genes
from scenc.io import read_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData

    from scenc.data.counts._check import CountCheck
    from scenc.data.counts._rows import CountRows


def inspect_counts(
    adata: AnnData,
    layer: str | None,
    gene_ids: str | None,
    feature_types: str | Sequence[str] | None = None,
) -> tuple[CountRows, pd.Index[str], CountCheck]:
    """Find the counts of an AnnData and check them in full.

    Values that are not integers and cells of the same name are warned of.

    Parameters
    ----------
    adata
        The data.
    layer
        Layer that holds the counts; ``None``: X.
    gene_ids
        Column of var that holds the gene identifiers; ``None``: var_names.
    feature_types
        Which features are genes, as in `scenc.genes.flag_genes`.

    Returns
    -------
    The counts, the names of their genes (``""`` for what is no gene), and the result of the check.

    Raises
    ------
    KeyError
        The layer or the column is missing; the message names those that are there.
    ValueError
        There are no cells or no X; a gene has no name, or that of another; a value is NaN,
        infinite or negative, or the values look log-normalised.
    TypeError
        The matrix is of a kind that cannot be read by row.
    """
    genes = gene_names(adata, gene_ids, feature_types)
    matrix, where = _choose_matrix(adata, layer)
    if adata.n_obs == 0:
        raise ValueError("adata has no cells.")
    problems = Problems()
    rows = open_rows(matrix, where)
    check = check_values(rows, adata.obs_names, genes, where, problems)
    if not adata.obs_names.is_unique:
        problems.remarks.append("adata.obs_names are not unique.")
    problems.report()
    return rows, genes, check


def gene_names(
    adata: AnnData, gene_ids: str | None, feature_types: str | Sequence[str] | None = None
) -> pd.Index[str]:
    """Return the gene identifiers, from var_names or a column of var; ``""`` for what is no gene.

    Raises
    ------
    KeyError
        The column is missing.
    ValueError
        An identifier is empty or stands twice; the message names it.
    """
    where = "adata.var_names" if gene_ids is None else f"adata.var[{gene_ids!r}]"
    values = read_column(adata.var, gene_ids, "adata.var")
    is_gene, _ = flag_genes(adata.var, feature_types, "adata.var")
    problems = Problems()
    names = check_names(values, where, problems, is_gene)
    problems.report()
    return names


def _choose_matrix(adata: AnnData, layer: str | None) -> tuple[Any, str]:
    """Return the matrix with the counts, and its name in messages."""
    if layer is None:
        if adata.X is None:
            raise ValueError("adata.X is empty: name the layer that holds the counts (layer=...).")
        return adata.X, "adata.X"
    if layer not in adata.layers:
        there = ", ".join(repr(name) for name in adata.layers if name is not None) or "none"
        raise KeyError(f"adata.layers has no {layer!r} (there: {there}).")
    return adata.layers[layer], f"adata.layers[{layer!r}]"
