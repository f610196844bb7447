from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.model.base import BaseModelClass

from scenc.model._aligned_counts import require_data
from scenc.model._fields import (
    CountsField,
    CovariatesField,
    GroupsField,
    MuDataCountsField,
    MuDataCovariatesField,
    MuDataGroupsField,
    report_genes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class SetupMixin(BaseModelClass):
    """The setup methods: where data keep their counts, genes, batches and labels."""

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        gene_ids: str | None = None,
        categorical_covariate_keys: Sequence[str] | str | None = None,
        feature_types: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Register where an AnnData keeps its counts, genes, batches and labels, and check these.

        Parameters
        ----------
        adata
            Cells x genes. Counts may be CSR, CSC, dense or backed.
        layer
            Layer that holds raw counts; ``None``: X.
        batch_key, labels_key
            Columns of obs that hold batches and labels; values are compared as names. Labels may be
            missing, batches may not.
        gene_ids
            Column of var that holds gene identifiers; ``None``: var_names.
        categorical_covariate_keys
            Columns of obs that the generative objective's decoder is told beside the batch, so that
            the embedding need not hold what they explain. Values are compared as names and may not
            be missing.
        feature_types
            Kinds of features to take as genes, by the column ``feature_types`` of var, or
            ``"all"``; ``None``: genes, and neither antibodies, hashtags, guides nor peaks. What is
            no gene counts neither as a gene nor for the library size.

        Raises
        ------
        ValueError
            A count is NaN, infinite or negative; the values look log-normalised; gene names are
            empty or not unique; there are no cells; `adata` is a view.
        KeyError
            The layer or a column is missing.
        TypeError
            `adata` is no AnnData.

        Examples
        --------
        >>> adata = scenc.datasets.pbmc68k()
        >>> scenc.Model.setup_anndata(adata, labels_key="cell_type")
        """
        require_data(adata, "setup_anndata", AnnData)
        setup_args = cls._get_setup_method_args(**locals())
        _require_feature_types(adata, feature_types, "adata")
        fields = [
            CountsField(layer=layer, gene_ids=gene_ids, feature_types=feature_types),
            GroupsField(REGISTRY_KEYS.BATCH_KEY, batch_key),
            GroupsField(REGISTRY_KEYS.LABELS_KEY, labels_key),
            CovariatesField(REGISTRY_KEYS.CAT_COVS_KEY, categorical_covariate_keys),
        ]
        manager = AnnDataManager(fields=fields, setup_method_args=setup_args)
        manager.register_fields(adata, **kwargs)
        report_genes(adata, gene_ids, feature_types)
        cls.register_manager(manager)

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        rna_layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        gene_ids: str | None = None,
        feature_types: str | Sequence[str] | None = None,
        modalities: Mapping[str, str] | None = None,
        categorical_covariate_keys: Sequence[str] | str | None = None,
        **kwargs: Any,
    ) -> None:
        """Register where a MuData keeps its counts, genes, batches and labels, and check these.

        Parameters
        ----------
        mdata
            The data; its modalities must hold the same cells.
        rna_layer
            Layer of the modality that holds raw counts; ``None``: X.
        batch_key, labels_key, gene_ids, feature_types
            As in `setup_anndata`.
        modalities
            Which modality each argument refers to, by default ``{"rna_layer": "rna"}``. Batches
            and labels are looked for in ``mdata.obs`` unless they are named here too.
        categorical_covariate_keys
            As in `setup_anndata`.

        Raises
        ------
        ValueError
            As in `setup_anndata`, or the modality is missing.
        KeyError
            The layer or a column is missing.

        Examples
        --------
        >>> scenc.Model.setup_mudata(mdata, modalities={"rna_layer": "rna", "batch_key": "rna"})
        """
        require_data(mdata, "setup_mudata", MuData)
        modalities = dict(modalities or {"rna_layer": "rna"})
        setup_args = cls._get_setup_method_args(**locals())
        where = cls._create_modalities_attr_dict(modalities, setup_args)
        if where.rna_layer is not None and where.rna_layer not in mdata.mod:
            raise ValueError(
                f"mdata has no modality {where.rna_layer!r} (there: {', '.join(mdata.mod)}); "
                "name yours with modalities={'rna_layer': ...}."
            )
        _require_feature_types(mdata.mod[where.rna_layer], feature_types, where.rna_layer)
        fields = [
            MuDataCountsField(
                layer=rna_layer,
                gene_ids=gene_ids,
                feature_types=feature_types,
                mod_key=where.rna_layer,
                mod_required=True,
            ),
            MuDataGroupsField(REGISTRY_KEYS.BATCH_KEY, batch_key, mod_key=where.batch_key),
            MuDataGroupsField(REGISTRY_KEYS.LABELS_KEY, labels_key, mod_key=where.labels_key),
            MuDataCovariatesField(
                REGISTRY_KEYS.CAT_COVS_KEY,
                categorical_covariate_keys,
                mod_key=where.categorical_covariate_keys,
            ),
        ]
        manager = AnnDataManager(fields=fields, setup_method_args=setup_args)
        manager.register_fields(mdata, **kwargs)
        rna = mdata.mod[where.rna_layer]
        report_genes(rna, gene_ids, feature_types)
        cls.register_manager(manager)

    @classmethod
    def setup_annbatch(cls, *_: Any, **__: Any) -> NoReturn:
        """Not supported: scvi-tools' version takes gene names from the first file only."""
        raise NotImplementedError(
            "scenc.Model does not read annbatch collections through setup_annbatch."
        )

    @staticmethod
    def load_registry(*_: Any, **__: Any) -> NoReturn:
        """Not supported: scvi-tools' version unpickles what it reads."""
        raise NotImplementedError(
            "A scenc model has no pickled registry: see model.json in its folder, or Model.load."
        )

    @classmethod
    def convert_legacy_save(cls, *_: Any, **__: Any) -> NoReturn:
        """Not supported: scvi-tools' version unpickles what it reads."""
        raise NotImplementedError("There are no legacy scenc models to convert.")


def _require_feature_types(adata: AnnData, feature_types: Any, where: str) -> None:
    """Refuse kinds of features for data that do not say which they have."""
    if feature_types not in (None, "all") and "feature_types" not in adata.var:
        raise KeyError(
            f"feature_types={feature_types!r} needs the column 'feature_types', which {where}.var "
            f"does not have (there: {', '.join(map(str, adata.var)) or 'none'})."
        )
