"""The registry field of the counts: genes are known by name, and every value is checked."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from scvi import REGISTRY_KEYS
from scvi.data.fields import LayerField, MuDataWrapper

from scenc.data.counts import inspect_counts
from scenc.genes import harmonize

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

GENES_KEY = "scenc_genes"


def report_genes(adata: AnnData, names: pd.Index[str]) -> None:
    """Write the report on gene names to ``adata.uns``; warn of genes with several columns."""
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
        _, genes, _ = inspect_counts(adata, self.attr_key, self._gene_ids)
        return {
            self.N_OBS_KEY: adata.n_obs,
            self.N_VARS_KEY: adata.n_vars,
            self.COLUMN_NAMES_KEY: genes.to_numpy(dtype=object),
        }

    def transfer_field(
        self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any
    ) -> dict[str, Any]:
        """Record the genes of other data, which need not be those of the first."""
        return self.register_field(adata_target)


MuDataCountsField = MuDataWrapper(CountsField)
