from __future__ import annotations

import numpy as np
import scanpy as sc
import scipy.sparse as sp

import scenc


def test_counts_of_700_labelled_cells_come_without_download():
    adata = scenc.datasets.pbmc68k()
    assert adata.shape == (700, 765)
    assert sp.issparse(adata.X)
    assert (adata.X.data >= 1).all()
    np.testing.assert_array_equal(adata.X.data, np.rint(adata.X.data))
    assert adata.obs["cell_type"].nunique() == 10
    assert not adata.obs["cell_type"].isna().any()
    assert adata.var_names.is_unique


def test_the_counts_give_the_shipped_values_back():
    adata = scenc.datasets.pbmc68k()
    shipped = sc.datasets.pbmc68k_reduced().raw.X.toarray()
    counts = adata.X.toarray()
    # The factor of a cell is not its own depth (genes were dropped since): it is read off.
    factor = np.expm1(shipped).sum(axis=1) / counts.sum(axis=1)
    assert np.abs(np.log1p(counts * factor[:, None]) - shipped).max() < 0.02
