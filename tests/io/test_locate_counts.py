from __future__ import annotations

import fcntl
import gzip

import anndata
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from scenc.io import find_counts, odd_value, open_file, opened


@pytest.fixture
def write(tmp_path):
    def to(adata, name="cells.h5ad"):
        path = tmp_path / name
        getattr(adata, "write_zarr" if name.endswith(".zarr") else "write_h5ad")(path)
        return path

    return to


@pytest.fixture
def logged(adata):
    """Counts in raw, logarithms in X, counts in a layer."""
    adata.layers["counts"] = adata.X.copy()
    adata.raw = adata.copy()
    adata.X = sp.csr_matrix(np.log1p(adata.X) * 0.3)
    return adata


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
def test_raw_is_taken_where_it_holds_counts(write, logged, name):
    with opened(write(logged, name)) as group:
        found = find_counts(group, name)
    assert (found.key, found.var, found.kind, found.shape) == ("raw/X", "raw/var", "csr", (120, 60))


def test_x_is_taken_where_raw_holds_none(write, adata):
    adata.raw = anndata.AnnData(sp.csr_matrix(np.log1p(adata.X)), adata.obs, adata.var)
    with opened(write(adata)) as group:
        assert find_counts(group, "it").key == "X"


@pytest.mark.parametrize(
    ("make", "kind"), [(sp.csr_matrix, "csr"), (sp.csc_matrix, "csc"), (np.asarray, "dense")]
)
def test_any_form_of_matrix_is_told(write, adata, make, kind):
    adata.X = make(adata.X.toarray())
    with opened(write(adata)) as group:
        assert find_counts(group, "it").kind == kind


def test_without_counts_it_says_what_there_is_instead(write, logged):
    logged.raw = None
    with (
        opened(write(logged)) as group,
        pytest.raises(
            ValueError, match=r"it holds no counts: raw/X is not there; X holds fractions "
        ) as e,
    ):
        find_counts(group, "it")
    assert "'counts'" in str(e.value)


def test_a_named_matrix_is_taken_as_it_is(write, logged):
    with opened(write(logged)) as group:
        assert find_counts(group, "it", "counts").key == "layers/counts"
        assert find_counts(group, "it", "X").key == "X"
        with pytest.raises(KeyError, match=r"no matrix 'count' \(there: 'X', 'raw', 'counts'\)"):
            find_counts(group, "it", "count")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, 2.0, 0.0], None),
        ([1, 2], None),
        ([1.0, np.nan], "NaN or infinite"),
        ([1.0, np.inf], "NaN or infinite"),
        ([1.0, -2.0], r"negative values \(like -2\)"),
        ([1.0, 2.5], r"fractions \(like 2.5\)"),
        (["a"], "type"),
    ],
)
def test_what_keeps_values_from_being_counts(values, said):
    found = odd_value(np.array(values))
    if said is None:
        assert found is None
    else:
        with pytest.raises(ValueError, match=said):
            raise ValueError(found)


def test_a_fraction_anywhere_in_a_small_matrix_is_seen(write, adata):
    values = adata.X.data
    values[len(values) * 2 // 3] = 0.5
    with opened(write(adata)) as group, pytest.raises(ValueError, match="like 0.5"):
        find_counts(group, "it")


def test_what_is_no_file_of_cells_is_refused(tmp_path, write, adata):
    with (
        pytest.raises(FileNotFoundError, match=r"There is no file .*absent\.h5ad"),
        opened(tmp_path / "absent.h5ad"),
    ):
        pass
    text = tmp_path / "text.h5ad"
    text.write_text("<html>")
    with pytest.raises(ValueError, match=r"text\.h5ad is no \.h5ad file"), opened(text):
        pass
    whole = write(adata)
    cut = tmp_path / "cut.h5ad"
    cut.write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"cut\.h5ad is incomplete"), opened(cut):
        pass
    other = tmp_path / "other.h5ad"
    with h5py.File(other, "w") as file:
        file["var"] = 1
    with (
        pytest.raises(ValueError, match=r"other\.h5ad holds no AnnData: it has no obs"),
        opened(other),
    ):
        pass
    with (
        pytest.raises(FileNotFoundError, match=r"no zarr store .*absent\.zarr"),
        opened(tmp_path / "absent.zarr"),
    ):
        pass
    (tmp_path / "empty.zarr").mkdir()
    with (
        pytest.raises(ValueError, match=r"empty\.zarr is no zarr store"),
        opened(tmp_path / "empty.zarr"),
    ):
        pass


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n<?xml version='1.0'?>", "a web page"),
        (gzip.compress(b"counts", mtime=0), "gunzip"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"", "is empty"),
        (b"anything", "is no .h5ad file, or damaged"),
    ],
)
def test_what_is_called_h5ad_is_named_for_what_it_is(tmp_path, content, said):
    path = tmp_path / "cells.h5ad"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"cells.h5ad is .*{said}|{said}"):
        open_file(path)


def test_a_file_that_is_written_elsewhere_is_locked(tmp_path, write_cells):
    path = tmp_path / "cells.h5ad"
    write_cells(path)
    with path.open("rb") as file:
        # As HDF5 does in another process.
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="is locked: another program"):
            open_file(path)


def test_a_folder_of_files_is_no_store(tmp_path, write_cells):
    write_cells(tmp_path / "cells.h5ad")
    with pytest.raises(ValueError, match="a folder of 1 files of cells, like cells.h5ad"):
        open_file(tmp_path)
