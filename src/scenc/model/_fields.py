"""The registry fields: genes and groups of cells are known by name, every count is checked."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS
from scvi.data.fields import (
    CategoricalJointObsField,
    CategoricalObsField,
    LayerField,
    MuDataWrapper,
)

from scenc._printing import list_some
from scenc.data.counts import (
    describe_continuous,
    describe_missing,
    describe_small_batches,
    gene_names,
    inspect_counts,
)
from scenc.genes import flag_genes, harmonize
from scenc.io import group_names, read_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

GENES_KEY = "scenc_genes"


def report_genes(
    adata: AnnData, gene_ids: str | None, feature_types: str | Sequence[str] | None
) -> None:
    """Write the report on gene names to ``adata.uns``.

    Features that are no genes, genes with several columns, names of two species and numbers as
    names are warned of.
    """
    _, left_out = flag_genes(adata.var, feature_types, "adata.var")
    if left_out is not None:
        warnings.warn(left_out, UserWarning, stacklevel=3)
    names = gene_names(adata, gene_ids, feature_types)
    genes = harmonize(names[names != ""])
    adata.uns[GENES_KEY] = genes.to_uns()
    for caution in genes.cautions:
        warnings.warn(f"{caution}.", UserWarning, stacklevel=3)
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
    feature_types
        Which features are genes, as in `scenc.genes.flag_genes`.
    """

    def __init__(
        self,
        layer: str | None = None,
        gene_ids: str | None = None,
        feature_types: str | Sequence[str] | None = None,
        **kwargs: Any,
    ):
        # MuDataWrapper hands over scvi-tools' own names of the first two arguments.
        layer = kwargs.pop("layer", layer)
        super().__init__(REGISTRY_KEYS.X_KEY, layer, is_count_data=False, correct_data_format=False)
        self._gene_ids, self._feature_types = gene_ids, feature_types

    def validate_field(self, adata: AnnData) -> None:
        """Check every value and every name."""
        self._inspect(adata)

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Record the genes' names."""
        genes = self._inspect(adata)
        return {
            self.N_OBS_KEY: adata.n_obs,
            self.N_VARS_KEY: len(genes),
            self.COLUMN_NAMES_KEY: genes.to_numpy(dtype=object),
        }

    def _inspect(self, adata: AnnData) -> pd.Index[str]:
        """Check the counts; return the names of what is a gene."""
        _, names, _ = inspect_counts(adata, self.attr_key, self._gene_ids, self._feature_types)
        return names[names != ""]

    def transfer_field(
        self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any
    ) -> dict[str, Any]:
        """Record the genes of other data, which need not be those of the first."""
        return self.register_field(adata_target)


class GroupsField(CategoricalObsField):
    """Batches or labels, which are compared by name: ``1`` and ``"1"`` are the same.

    Labels may be missing and have the code -1 then; each cell must have a batch.
    """

    def validate_field(self, adata: AnnData) -> None:
        """Check that the column is there, and that each cell has a batch."""
        super().validate_field(adata)
        if self.registry_key == REGISTRY_KEYS.BATCH_KEY and not self.is_default:
            groups = self._groups(adata)
            missing = describe_missing(groups, self._original_attr_key, np.ones(len(groups), bool))
            if missing is not None:
                raise ValueError(f"{missing}.")

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Write each cell's group as a number."""
        if self.is_default:
            state: dict[str, Any] = super().register_field(adata)
            return state
        self.validate_field(adata)
        groups = self._groups(adata)
        if self.registry_key == REGISTRY_KEYS.BATCH_KEY:
            small = describe_small_batches(groups, self._original_attr_key)
            if small is not None:
                warnings.warn(small, UserWarning, stacklevel=2)
        return self._write(adata, groups)

    def transfer_field(
        self,
        state_registry: dict[str, Any],
        adata_target: AnnData,
        extend_categories: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Write each cell's group as a number of the first data; further groups follow."""
        if self.is_default:
            state: dict[str, Any] = super().transfer_field(
                state_registry, adata_target, extend_categories=extend_categories, **kwargs
            )
            return state
        self.validate_field(adata_target)
        groups = self._groups(adata_target)
        known = list(dict.fromkeys(group_names(state_registry[self.CATEGORICAL_MAPPING_KEY])))
        new = [name for name in groups.categories if name not in set(known)]
        if new and not extend_categories:
            raise ValueError(
                f"{self._original_attr_key} {new[0]!r} is not among those of the first data: "
                f"{list_some(known)}."
            )
        return self._write(adata_target, groups.set_categories([*known, *new]))

    def _groups(self, adata: AnnData) -> pd.Categorical:
        return read_groups(adata.obs, self._original_attr_key, "adata.obs")

    def _write(self, adata: AnnData, groups: pd.Categorical) -> dict[str, Any]:
        adata.obs[self.attr_key] = groups.codes
        return {
            self.CATEGORICAL_MAPPING_KEY: groups.categories.to_numpy(dtype=object),
            self.ORIGINAL_ATTR_KEY: self._original_attr_key,
        }


class CovariatesField(CategoricalJointObsField):
    """Further covariates, one name or several, which are compared by name and never missing."""

    def __init__(self, registry_key: str, attr_keys: Sequence[str] | str | None, **kwargs: Any):
        keys = [attr_keys] if isinstance(attr_keys, str) else attr_keys
        super().__init__(registry_key, None if keys is None else list(keys), **kwargs)

    def validate_field(self, adata: AnnData) -> None:
        """Check that the columns are there, and that each cell has a value of each."""
        for key, groups in self._groups(adata).items():
            missing = describe_missing(groups, key, np.ones(len(groups), bool), "covariate")
            if missing is not None:
                raise ValueError(f"{missing}.")
        super().validate_field(adata)

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Write each cell's categories as numbers."""
        for key, groups in self._groups(adata).items():
            continuous = describe_continuous(groups, key)
            if continuous is not None:
                warnings.warn(continuous, UserWarning, stacklevel=2)
        state: dict[str, Any] = super().register_field(adata)
        return state

    def transfer_field(
        self,
        state_registry: dict[str, Any],
        adata_target: AnnData,
        extend_categories: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Write each cell's categories as numbers of the first data; further ones follow."""
        mappings = {}
        for key, groups in self._groups(adata_target).items():
            known = group_names(state_registry[self.MAPPINGS_KEY][key])
            new = groups.categories if extend_categories else ()
            mappings[key] = np.array([*dict.fromkeys([*known, *new])], dtype=object)
        by_name = {**state_registry, self.MAPPINGS_KEY: mappings}
        state: dict[str, Any] = super().transfer_field(by_name, adata_target, **kwargs)
        return state

    def _combine_fields(self, adata: AnnData) -> None:
        columns = {key: groups.astype(object) for key, groups in self._groups(adata).items()}
        adata.obsm[self.attr_key] = pd.DataFrame(columns, index=adata.obs_names)

    def _make_array_categorical(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        with warnings.catch_warnings():
            # Of few cells in one category scvi-tools warns as if it were a batch.
            warnings.filterwarnings("ignore", ".* has fewer than 3 cells", UserWarning)
            state: dict[str, Any] = super()._make_array_categorical(*args, **kwargs)
            return state

    def _groups(self, adata: AnnData) -> dict[str, pd.Categorical]:
        return {key: read_groups(adata.obs, key, "adata.obs") for key in self.attr_keys or ()}


MuDataCovariatesField = MuDataWrapper(CovariatesField)
MuDataGroupsField = MuDataWrapper(GroupsField)
MuDataCountsField = MuDataWrapper(CountsField)
