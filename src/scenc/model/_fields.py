"""How scvi-tools' registry sees the counts: by gene name, checked in full."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS
from scvi.data.fields import LayerField, MuDataWrapper

from scenc.data import CountCheck, check_counts, open_rows
from scenc.genes import harmonize

if TYPE_CHECKING:
    from anndata import AnnData

    from scenc.data import CountRows


GENES_KEY = "scenc_genes"


def layer_name(layer: str | None) -> str:
    """Return what a layer is called in messages."""
    return "adata.X" if layer is None else f"adata.layers[{layer!r}]"


def open_counts(adata: AnnData, layer: str | None) -> CountRows:
    """Return the counts of an AnnData.

    Raises
    ------
    KeyError
        The layer is missing; the message names those that are there.
    ValueError
        There are no cells, or X is missing.
    """
    if layer is not None and layer not in adata.layers:
        there = ", ".join(repr(name) for name in adata.layers if name is not None) or "none"
        raise KeyError(f"adata.layers has no {layer!r} (there: {there}).")
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise ValueError("adata.X is empty: name the layer that holds the counts (layer=...).")
    if adata.n_obs == 0:
        raise ValueError("adata has no cells.")
    return open_rows(matrix, layer_name(layer))


def gene_names(adata: AnnData, gene_ids: str | None) -> pd.Index[str]:
    """Return the gene identifiers, from var_names or a column of var.

    Raises
    ------
    KeyError
        The column is missing.
    ValueError
        An identifier is empty or stands twice; the message names it.
    """
    if gene_ids is None:
        names: pd.Index[str] = pd.Index(adata.var_names)
        where = "adata.var_names"
    else:
        if gene_ids not in adata.var:
            raise KeyError(
                f"adata.var has no column {gene_ids!r} (there: {', '.join(adata.var) or 'none'})."
            )
        names = pd.Index(adata.var[gene_ids])
        where = f"adata.var[{gene_ids!r}]"
    missing = np.asarray(names.isna() | (names.astype(str) == ""))
    if missing.any():
        raise ValueError(
            f"{where} has {missing.sum()} empty entries, the first at position "
            f"{int(missing.argmax())}. Every gene needs an identifier; drop those columns first."
        )
    names = pd.Index(names.astype(str))
    if names.has_duplicates:
        double = names[names.duplicated()].unique()
        raise ValueError(
            f"{where} names {len(double)} genes more than once, for example "
            f"{', '.join(double[:5])}. Merge or drop them, or call adata.var_names_make_unique()."
        )
    return names


def report_genes(adata: AnnData, names: pd.Index[str]) -> None:
    """Write what is known of the genes to ``adata.uns``; warn where several columns mean one."""
    genes = harmonize(names)
    adata.uns[GENES_KEY] = genes.to_uns()
    if genes.duplicated:
        first = next(iter(genes.duplicated.values()))
        warnings.warn(
            f"{len(genes.duplicated)} genes stand in several columns under different names, for "
            f"example {', '.join(first)}; the model treats these as different genes. Merge them if "
            f"they are not (all are listed in adata.uns[{GENES_KEY!r}]).",
            UserWarning,
            stacklevel=3,
        )


def inspect_counts(adata: AnnData, layer: str | None, gene_ids: str | None) -> CountCheck:
    """Check all counts of an AnnData: errors for the unusable, warnings for the doubtful.

    Raises
    ------
    ValueError
        A value is NaN, infinite or negative, or the values look log-normalised.
    """
    where = layer_name(layer)
    names = gene_names(adata, gene_ids)
    check = check_counts(open_counts(adata, layer), adata.obs_names, names, where)
    if check.first_fractional is not None:
        cell, gene, value = check.first_fractional
        seen = f"{value:.4g} at cell {cell!r}, gene {gene!r}"
        if check.looks_log_normalized:
            raise ValueError(
                f"{where} looks log-normalised: {check.n_fractional} of {check.n_values} values "
                f"are fractions and none is above {check.maximum:.3g} (first: {seen}). scenc needs "
                "raw counts: pass the layer that holds them (layer='counts'), use "
                "adata.raw.to_adata(), or try scenc.data.recover_counts."
            )
        warnings.warn(
            f"{where} holds {check.n_fractional} values that are not integers (first: {seen}); "
            "scenc expects raw counts and takes these as they are.",
            UserWarning,
            stacklevel=2,
        )
    if not adata.obs_names.is_unique:
        warnings.warn("adata.obs_names are not unique.", UserWarning, stacklevel=2)
    return check


class CountsField(LayerField):
    """Counts whose genes are known by name, so that a query may have others in any order.

    Parameters
    ----------
    layer
        Layer that holds the counts; ``None``: X.
    gene_ids
        Column of var that holds the gene identifiers; ``None``: var_names.
    """

    def __init__(self, layer: str | None = None, gene_ids: str | None = None, **kwargs: Any):
        # MuDataWrapper hands over scvi-tools' own names of the first two arguments.
        layer = kwargs.pop("layer", layer)
        super().__init__(REGISTRY_KEYS.X_KEY, layer, is_count_data=False, correct_data_format=False)
        self._gene_ids = gene_ids

    def validate_field(self, adata: AnnData) -> None:
        """Check every value and every name."""
        inspect_counts(adata, self.attr_key, self._gene_ids)

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Record the genes' names."""
        self.validate_field(adata)
        return {
            self.N_OBS_KEY: adata.n_obs,
            self.N_VARS_KEY: adata.n_vars,
            self.COLUMN_NAMES_KEY: gene_names(adata, self._gene_ids).to_numpy(dtype=object),
        }

    def transfer_field(
        self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any
    ) -> dict[str, Any]:
        """Record the genes of other data, which need not be those of the first."""
        return self.register_field(adata_target)


MuDataCountsField = MuDataWrapper(CountsField)
