from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scenc.datasets import read_counts
from scenc.datasets._read import inspect


@pytest.fixture
def logged(adata):
    """Counts in raw and in a layer, logarithms in X."""
    adata.layers["counts"] = adata.X.copy()
    adata.raw = adata.copy()
    adata.X = sp.csr_matrix(np.log1p(adata.X) * 0.3)
    return adata


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
def test_only_the_counts_are_read(logged, tmp_path, name):
    counts = logged.raw.X.toarray()
    getattr(logged, "write_zarr" if name.endswith(".zarr") else "write_h5ad")(tmp_path / name)
    for layer in (None, "raw", "counts"):
        adata = read_counts(tmp_path / name, layer)
        np.testing.assert_array_equal(adata.X.toarray(), counts)
        assert not [layer for layer in adata.layers if layer]
        assert adata.raw is None
        assert adata.obs.equals(logged.obs)
        assert adata.var_names.tolist() == logged.var_names.tolist()


def test_genes_are_those_of_the_matrix_that_is_read(logged, tmp_path):
    narrow = logged[:, :20].copy()
    narrow.raw = logged.raw.to_adata()
    narrow.write_h5ad(tmp_path / "cells.h5ad")
    assert read_counts(tmp_path / "cells.h5ad").shape == (120, 60)
    assert read_counts(tmp_path / "cells.h5ad", "X").shape == (120, 20)


def test_columns_become_rows(adata, tmp_path):
    counts = adata.X.toarray()
    adata.X = sp.csc_matrix(counts)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    read = read_counts(tmp_path / "cells.h5ad")
    assert isinstance(read.X, sp.csr_matrix | sp.csr_array)
    np.testing.assert_array_equal(read.X.toarray(), counts)


def test_a_file_without_counts_is_refused(logged, tmp_path):
    logged.raw = None
    logged.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(ValueError, match=r"cells\.h5ad holds no counts"):
        read_counts(tmp_path / "cells.h5ad")
    content = inspect(tmp_path / "cells.h5ad")
    assert (content.n_cells, content.counts, content.n_off_tissue) == (120, None, 0)


def test_in_tissue_may_be_booleans(logged, tmp_path):
    logged.obs["in_tissue"] = [i < 100 for i in range(120)]
    logged.write_h5ad(tmp_path / "cells.h5ad")
    assert inspect(tmp_path / "cells.h5ad").n_off_tissue == 20
