from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData


def pbmc68k() -> AnnData:
    """Return 700 labelled blood cells with raw counts, without any download.

    They are the subset of 10x Genomics' 68 thousand PBMCs (Zheng et al. 2017) that scanpy ships.
    Its values are log-normalised and rounded to three decimals; counts are recovered from them
    (`scenc.data.recover_counts`) and come out within 0.12 of integers.

    Returns
    -------
    AnnData of 700 cells x 765 genes: counts in X, labels in ``obs["cell_type"]``.

    Examples
    --------
    >>> adata = scenc.datasets.pbmc68k()
    """
    import anndata
    import scanpy

    from scenc.data import recover_counts

    with warnings.catch_warnings():
        # The file is of an old AnnData version.
        warnings.simplefilter("ignore")
        source = scanpy.datasets.pbmc68k_reduced()
    adata = anndata.AnnData(
        X=recover_counts(source.raw.X),
        obs=source.obs[["bulk_labels", "phase"]].rename(columns={"bulk_labels": "cell_type"}),
        var=source.raw.var[[]].copy(),
    )
    adata.obs.index.name = adata.var.index.name = None
    adata.uns["source"] = "scanpy.datasets.pbmc68k_reduced(), counts recovered"
    return adata
