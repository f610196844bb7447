from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from scenc.data.files import _file_rows
from scenc.data.files._file_rows import FileRows, rows_of_columns, runs
from scenc.io import find_counts, opened


def open_counts(path, layer=None):
    with opened(path) as group:
        return FileRows(str(path), find_counts(group, str(path), layer))


@pytest.fixture(params=["h5ad", "zarr"])
def suffix(request):
    return request.param


@pytest.fixture(params=["csr", "csc", "dense"])
def case(request, suffix, tmp_path, write_cells):
    """Rows of a file, and its counts."""
    path = tmp_path / f"cells.{suffix}"
    adata = write_cells(path, n_cells=70, form=request.param)
    return open_counts(path), adata.uns["counts"]


def test_runs_of_rows_are_read_as_they_are(case):
    rows, counts = case
    assert rows.shape == counts.shape
    for start, stop in ((0, 70), (3, 4), (69, 70), (10, 10)):
        indptr, indices, values = rows.span(start, stop)
        block = sp.csr_array((values, indices, indptr), (stop - start, counts.shape[1]))
        np.testing.assert_array_equal(block.toarray(), counts[start:stop])
        assert values.dtype == np.float32


def test_any_rows_come_in_the_order_asked_for(case):
    rows, counts = case
    for wanted in ([5, 69, 0, 5, 31], [7], range(70), []):
        wanted = np.array(wanted, dtype=np.int64)
        block, positions = rows.select(wanted)
        np.testing.assert_array_equal(block.toarray()[positions], counts[wanted])


def test_stored_values_are_counted(case):
    rows, counts = case
    if rows.n_stored is not None:
        np.testing.assert_array_equal(rows.n_stored, (counts > 0).sum(axis=1))


def test_another_process_opens_the_file_for_itself(case):
    rows, counts = case
    rows.span(0, 1)
    again = pickle.loads(pickle.dumps(rows))
    np.testing.assert_array_equal(again.select(np.arange(70))[0].toarray(), counts)


def test_columns_become_rows_in_bounded_steps(tmp_path, write_cells, monkeypatch):
    """A step holds fewer values than the matrix, and than its fullest row."""
    path = tmp_path / "cells.h5ad"
    counts = write_cells(path, n_cells=20, form="csc").uns["counts"]
    for size in (7, 100, 1000):
        monkeypatch.setattr(_file_rows, "_BLOCK", size)
        with h5py.File(path) as file:
            made = rows_of_columns(file["X"], counts.shape, tmp_path / f"{size}.h5")
        matrix = sp.csr_array((made["data"][:], made["indices"][:], made["indptr"][:]))
        np.testing.assert_array_equal(matrix.toarray(), counts)
        assert matrix.has_sorted_indices
        made.close()


def test_the_temporary_file_goes_with_the_rows(tmp_path, write_cells, monkeypatch):
    import tempfile

    path = tmp_path / "cells.h5ad"
    write_cells(path, form="csc")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    rows = open_counts(path)
    rows.span(0, 3)
    assert list((tmp_path / "scratch").iterdir())
    del rows
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize(
    "damage",
    [
        lambda x: x["indptr"].write_direct(np.arange(51)[::-1].astype("i4")),
        lambda x: x["indptr"].write_direct(np.arange(51).astype("i4")),
        lambda x: x["data"].resize((5,)),
    ],
)
def test_rows_that_do_not_add_up_are_refused(tmp_path, write_cells, damage):
    path = tmp_path / "cells.h5ad"
    write_cells(path)
    rows = open_counts(path)
    with h5py.File(path, "r+") as file:
        file["X/indptr"][...] = file["X/indptr"][...]
        damage({name: file["X"][name] for name in ("indptr", "data")})
    with pytest.raises(ValueError, match=r"cells\.h5ad: X is damaged: its rows do not add up"):
        rows.span(0, 1)


def test_columns_that_are_no_integers_are_refused(tmp_path, write_cells):
    path = tmp_path / "cells.h5ad"
    write_cells(path)
    rows = open_counts(path)
    with h5py.File(path, "r+") as file:
        found = file["X/indices"][:]
        del file["X/indices"]
        file["X/indices"] = np.full(len(found), np.nan)
    with pytest.raises(ValueError, match=r"cells\.h5ad: X is damaged"):
        rows.span(0, 1)


def test_a_column_matrix_with_rows_out_of_range_is_refused(tmp_path, write_cells):
    path = tmp_path / "cells.h5ad"
    write_cells(path, form="csc")
    rows = open_counts(path)
    with h5py.File(path, "r+") as file:
        file["X/indices"][3] = 10_000
    with pytest.raises(ValueError, match="A matrix of 50 rows has values in row 10000"):
        rows.span(0, 1)


def test_rows_are_cut_at_wide_gaps():
    assert runs(np.array([], dtype=int)) == []
    assert runs(np.array([3])) == [(0, 1)]
    assert runs(np.array([3, 4, 6, 100, 101])) == [(0, 3), (3, 5)]
