import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scenc.tasks import (
    gene_levels,
    genes_of_like_expression,
    leiden_of_genes,
    mean_correlations,
    score_programmes,
)


@pytest.fixture(scope="module")
def values():
    """400 cells x 60 genes: two signals of ten genes each, 39 genes alone, the last one silent."""
    rng = np.random.default_rng(0)
    level = rng.uniform(0.5, 2, size=60)
    rate = np.tile(level, (400, 1))
    rate[:, :10] *= rng.gamma(1, 1, size=(400, 1))
    rate[:, 10:20] *= rng.gamma(1, 1, size=(400, 1))
    values = np.log1p(rng.poisson(rate))
    values[:, 59] = 0
    return sp.csr_matrix(values)


def sets_of(*members, n_genes=60):
    sets = np.zeros((n_genes, len(members)))
    for column, genes in enumerate(members):
        sets[list(genes), column] = 1
    return sp.csr_matrix(sets)


def test_levels_are_those_of_numpy(values):
    levels, dense = gene_levels(values), values.toarray()
    np.testing.assert_array_equal(levels.n_cells, (dense > 0).sum(axis=0))
    np.testing.assert_allclose(levels.mean, dense.mean(axis=0))
    np.testing.assert_allclose(levels.sd, dense.std(axis=0))
    expected = [column[column > 0].mean() if column.any() else 0 for column in dense.T]
    np.testing.assert_allclose(levels.detected_mean, expected)


def test_mean_correlations_are_those_of_the_matrix(values):
    members = [range(10), [3, 30, 45], [5, 6], [7]]
    found = mean_correlations(values, sets_of(*members), gene_levels(values))
    matrix = np.corrcoef(values[:, :59].toarray(), rowvar=False)
    for genes, value in zip(members[:3], found, strict=False):
        block = matrix[np.ix_(list(genes), list(genes))]
        assert value == pytest.approx(block[~np.eye(len(block), dtype=bool)].mean())
    assert np.isnan(found[3])


def test_genes_of_like_expression_are_near_in_both(values):
    dense = np.zeros((100, 5))
    dense[:50, 0] = 1.0
    dense[:49, 1] = 1.0  # as gene 0
    dense[:50, 2] = 5.0  # in as many cells, far stronger
    dense[:2, 3] = 1.0  # as strong, in far fewer cells
    dense[:45, 4] = 1.2
    levels = gene_levels(sp.csr_matrix(dense))
    found = genes_of_like_expression(levels, np.array([0]), np.array([1, 2, 3, 4]), 2)
    assert found.tolist() == [[1, 4]]
    everything = genes_of_like_expression(levels, np.array([0]), np.array([3, 4]), 9)
    assert everything.tolist() == [[4, 3]]


def test_planted_programmes_pass_and_random_ones_do_not(values):
    programmes = np.full(60, -1)
    programmes[:10] = 0
    programmes[10:20] = 1
    programmes[20:40] = 2
    programmes[59] = 3
    table = score_programmes(values, programmes, n_random=99, seed=0)
    assert table["n_genes"].tolist() == [10, 10, 20, 1]
    assert table["p_value"].tolist()[:2] == [0.01, 0.01]
    assert table.loc[2, "p_value"] > 0.05
    assert table.loc[3, ["coexpression", "p_value", "p_adjusted"]].isna().all()
    # Benjamini and Hochberg by hand: three tests, the first two tied.
    assert table["p_adjusted"].tolist()[:2] == pytest.approx([0.015, 0.015])
    matrix = np.corrcoef(values[:, :10].toarray(), rowvar=False)
    expected = matrix[~np.eye(10, dtype=bool)].mean()
    assert table.loc[0, "coexpression"] == pytest.approx(expected)
    assert (
        table.loc[0, "coexpression"] > table.loc[0, "random_mean"] + 5 * table.loc[0, "random_sd"]
    )


def test_p_values_of_random_programmes_are_uniform(values):
    # Genes that follow no signal, cut into programmes at random many times.
    rng, found = np.random.default_rng(1), []
    for seed in range(20):
        programmes = rng.permutation(39) % 3
        found += score_programmes(values[:, 20:59], programmes, 49, seed)["p_value"].tolist()
    assert 0.35 < np.mean(found) < 0.65
    assert np.mean(np.array(found) <= 0.1) < 0.25


def test_a_seed_determines_the_test(values):
    programmes = np.arange(60) % 4
    first, again = (score_programmes(values, programmes, 20, seed=3) for _ in range(2))
    other = score_programmes(values, programmes, 20, seed=4)
    assert first.equals(again)
    assert not first.equals(other)


def test_leiden_finds_separate_directions():
    rng = np.random.default_rng(0)
    centres = np.eye(3)[np.repeat([0, 1, 2], [30, 20, 15])]
    # Lengths differ: only directions count.
    vectors = (centres + rng.normal(0, 0.05, centres.shape)) * rng.uniform(1, 9, (65, 1))
    found = leiden_of_genes(AnnData(vectors.astype(np.float32)), 0.3, 10, seed=0)
    assert found.tolist() == np.repeat([0, 1, 2], [30, 20, 15]).tolist()
