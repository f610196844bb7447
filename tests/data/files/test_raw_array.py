from __future__ import annotations

import os

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenc.data.files._raw_array import raw_array

VALUES = np.random.default_rng(0).integers(0, 2**31, 1000)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An open file of arrays in all forms."""
    path = tmp_path_factory.mktemp("raw") / "arrays.h5"
    with h5py.File(path, "w") as file:
        for dtype in ("i4", "i8", "u2", "f4", "f8"):
            values = VALUES.astype(dtype)
            file.create_dataset(f"whole {dtype}", data=values)
            file.create_dataset(f"pieces {dtype}", data=values, chunks=(7,), maxshape=(None,))
        # Pieces of two arrays in turn do not follow upon each other.
        both = [file.create_dataset(f"mixed {i}", 1000, "i4", chunks=(64,)) for i in (0, 1)]
        for start in range(0, 1000, 64):
            for array in both:
                array[start : start + 64] = VALUES[start : start + 64]
                file.flush()
    with h5py.File(path) as file:
        yield file


@settings(max_examples=100)
@given(data=st.data(), start=st.integers(0, 1100), size=st.integers(0, 1100))
def test_any_values_are_those_that_were_written(written, data, start, size):
    name = data.draw(st.sampled_from(sorted(written)))
    array = raw_array(written[name])
    assert array.shape == (1000,)
    found = array[start : start + size]
    assert found.dtype == written[name].dtype
    np.testing.assert_array_equal(found, written[name][start : start + size])


@pytest.mark.parametrize(
    "form",
    [
        {"data": VALUES, "compression": "gzip"},
        {"data": VALUES, "chunks": (10,), "fletcher32": True},
        {"data": VALUES.astype(">i4")},
        {"data": VALUES[:, None]},
        {"data": VALUES > 5},
        {"data": VALUES[:0]},
        {"shape": 1000, "dtype": "i4", "chunks": (10,)},
        {"shape": 1000, "dtype": "i4"},
        {"shape": 1000, "dtype": "i4", "external": [("elsewhere", 0, h5py.h5f.UNLIMITED)]},
    ],
)
def test_what_is_not_stored_as_it_is_is_left_to_hdf5(tmp_path, form):
    with h5py.File(tmp_path / "array.h5", "w") as file:
        assert raw_array(file.create_dataset("x", **form)) is None


def test_partly_written_arrays_are_left_to_hdf5(tmp_path):
    with h5py.File(tmp_path / "array.h5", "w") as file:
        array = file.create_dataset("x", 100, "i4", chunks=(10,))
        array[20:30] = 1
        assert raw_array(array) is None


def test_a_file_that_begins_with_other_things_is_left_to_hdf5(tmp_path):
    with h5py.File(tmp_path / "array.h5", "w", userblock_size=512) as file:
        assert raw_array(file.create_dataset("x", data=VALUES)) is None


def test_a_file_cut_short_is_an_error(tmp_path):
    path = tmp_path / "array.h5"
    with h5py.File(path, "w") as file:
        file["x"] = VALUES
    with h5py.File(path) as file:
        array = raw_array(file["x"])
        os.truncate(path, path.stat().st_size - 100)
        np.testing.assert_array_equal(array[:10], VALUES[:10])
        with pytest.raises(OSError, match="the file ends before its values do"):
            array[900:]


def test_an_array_closes_its_file(tmp_path):
    with h5py.File(tmp_path / "array.h5", "w") as file:
        file["x"] = VALUES
        file.flush()
        array = raw_array(file["x"])
        number = array._file
        os.fstat(number)
        del array
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
