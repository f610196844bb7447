from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scenc.data import recover_counts


@pytest.fixture
def counts(make_counts):
    counts = make_counts(5000, 12)
    counts[:, 0] = 1  # the count of one that recovery rests on
    return counts


def log_normalize(counts, target=1e4):
    return np.log1p(counts / counts.sum(axis=1, keepdims=True).clip(min=1) * target)


@pytest.mark.parametrize("convert", [sp.csr_matrix, sp.csc_array, np.asarray])
def test_counts_come_back(counts, convert):
    recovered = recover_counts(convert(log_normalize(counts)))
    assert isinstance(recovered, sp.csr_matrix)
    assert recovered.dtype == np.float32
    np.testing.assert_array_equal(recovered.toarray(), counts)


def test_values_rounded_to_three_decimals_come_back(counts):
    np.testing.assert_array_equal(recover_counts(log_normalize(counts).round(3)).toarray(), counts)


def test_cells_without_counts_and_stored_zeros_stay_empty(counts):
    counts[[0, 4999]] = 0
    matrix = sp.csr_matrix(log_normalize(counts))
    matrix[10, 3] = 0
    counts[10, 3] = 0
    np.testing.assert_array_equal(recover_counts(matrix).toarray(), counts)


def test_the_input_is_left_as_it_was(counts):
    matrix = sp.csr_matrix(log_normalize(counts))
    before = matrix.copy()
    recover_counts(matrix)
    np.testing.assert_array_equal(matrix.data, before.data)


@pytest.mark.parametrize("row", [7, 4500])
@pytest.mark.parametrize("values", [[2, 3], [2, np.nan]])
def test_a_cell_that_does_not_fit_is_named(counts, row, values):
    counts[row] = 0
    counts[row, :2] = values
    with pytest.raises(ValueError, match=rf"Row {row}: .* no integer"):
        recover_counts(np.log1p(counts))


def test_tolerance_decides(counts):
    logged = log_normalize(counts)
    logged[3, 0] *= 0.999
    with pytest.raises(ValueError, match="Row 3"):
        recover_counts(logged, tolerance=1e-4)
    np.testing.assert_array_equal(recover_counts(logged).toarray(), counts)
