from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scenc.data import check_counts, open_rows

# More cells than one chunk of the walk holds.
N_CELLS = 5000


def check(matrix, where="adata.X"):
    cells = pd.Index([f"cell{i}" for i in range(matrix.shape[0])])
    genes = pd.Index([f"gene{i}" for i in range(matrix.shape[1])])
    return check_counts(open_rows(matrix), cells, genes, where)


@pytest.fixture
def counts(make_counts):
    return make_counts(N_CELLS, 6)


@pytest.mark.parametrize("convert", [sp.csr_matrix, sp.csc_matrix, np.asarray])
@pytest.mark.parametrize("cell", [0, 4095, 4096, N_CELLS - 1])
@pytest.mark.parametrize(
    ("value", "what"),
    [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite"), (-1, "negative")],
)
def test_unusable_values_are_found_wherever_they_are(counts, convert, cell, value, what):
    counts[cell, 4] = value
    with pytest.raises(ValueError, match=rf"(?s){what}.*'cell{cell}'.*'gene4'"):
        check(convert(counts))


def test_the_message_names_the_matrix(counts):
    counts[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"adata\.layers\['raw'\]"):
        check(counts, "adata.layers['raw']")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8])
def test_counts_pass_with_a_summary(counts, dtype):
    found = check(sp.csr_matrix(counts.astype(dtype)))
    np.testing.assert_array_equal(found.n_genes, (counts != 0).sum(axis=1))
    assert found.n_values == (counts != 0).sum()
    assert found.maximum == counts.max()
    assert found.n_fractional == 0
    assert found.first_fractional is None
    assert not found.looks_log_normalized


def test_stored_zeros_are_not_genes():
    matrix = sp.csr_matrix(
        (np.array([0, 2, 0, 0], np.float32), np.array([0, 1, 0, 2]), np.array([0, 2, 4])), (2, 3)
    )
    found = check(matrix)
    assert found.n_genes.tolist() == [1, 0]
    assert found.n_values == 1


def test_a_single_fraction_in_the_last_chunk_is_reported(counts):
    counts[-1, 2] = 2.5
    found = check(sp.csr_matrix(counts))
    assert found.n_fractional == 1
    assert found.first_fractional == (f"cell{N_CELLS - 1}", "gene2", 2.5)
    assert not found.looks_log_normalized


def test_log_normalised_values_are_recognised_and_scaled_counts_are_not(counts):
    scaled = counts / counts.sum(axis=1, keepdims=True) * 1e4
    assert check(np.log1p(scaled)).looks_log_normalized
    assert not check(scaled).looks_log_normalized


def test_empty_matrices_pass():
    found = check(sp.csr_matrix((3, 4), dtype=np.float32))
    assert found.n_genes.tolist() == [0, 0, 0]
    assert found.maximum == 0
    assert not found.looks_log_normalized


def test_values_scaled_to_one_depth_are_recognised_and_counts_are_not(counts):
    scaled = counts / counts.sum(axis=1, keepdims=True) * 1e4
    for values in (scaled, np.rint(scaled)):
        found = check(sp.csr_matrix(values))
        np.testing.assert_allclose(found.totals, values.sum(axis=1), rtol=1e-5)
        assert found.looks_scaled
        # A few cells may be of one depth by chance, and cells without counts are of none.
        assert not check(values[:9]).looks_scaled
        assert check(np.vstack([values, np.zeros_like(values)])).looks_scaled
    assert not check(counts).looks_scaled
    drawn_down = np.random.default_rng(0).multinomial(1000, np.full(6, 1 / 6), N_CELLS)
    assert not check(drawn_down).looks_scaled
