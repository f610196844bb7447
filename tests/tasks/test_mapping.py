"""A query on a reference's map, against formulas and umap-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from scenc.tasks import _nearest as nearest_module
from scenc.tasks import map_to_reference


@pytest.fixture(scope="module")
def cells():
    """Return 300 cells of a reference and 80 of a query, of three types."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(3, 8)) * 4
    drawn = centers[np.arange(380) % 3] + rng.normal(size=(380, 8))
    return drawn[:300].astype(np.float32), drawn[300:].astype(np.float32)


def test_a_query_goes_to_the_mean_of_its_neighbours(cells):
    reference, query = cells
    mapping = map_to_reference(reference, query, reference[:, :2], n_neighbors=9)
    distances, rows = NearestNeighbors(n_neighbors=9).fit(reference).kneighbors(query)
    weights = np.exp(-((distances / distances.mean(axis=1, keepdims=True)) ** 2))
    weights /= weights.sum(axis=1, keepdims=True)
    expected = (weights[:, :, None] * reference[rows][:, :, :2]).sum(axis=1)
    np.testing.assert_allclose(mapping.query, expected, atol=1e-4)
    np.testing.assert_array_equal(mapping.reference, reference[:, :2])
    assert mapping.placed_by == "neighbors"


def test_the_score_is_a_conformal_p_value(cells):
    reference, query = cells
    batches = np.arange(300) // 100
    mapping = map_to_reference(reference, query, reference[:, :2], batches)
    own = np.zeros(300)
    for batch in range(3):
        out = batches == batch
        search = NearestNeighbors(n_neighbors=15).fit(reference[~out])
        own[out] = search.kneighbors(reference[out])[0].mean(axis=1)
    away = NearestNeighbors(n_neighbors=15).fit(reference).kneighbors(query)[0].mean(axis=1)
    expected = [(1 + np.sum(own >= distance)) / 301 for distance in away]
    np.testing.assert_allclose(mapping.score, expected, atol=0.01)
    strange = map_to_reference(reference, query + 50, reference[:, :2], batches)
    np.testing.assert_allclose(strange.score, 1 / 301, rtol=1e-5)


def test_scores_of_cells_like_the_reference_are_spread_evenly(cells):
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=(2400, 4))
    mapping = map_to_reference(drawn[:1200], drawn[1200:], drawn[:1200, :2])
    assert abs(np.mean(mapping.score < 0.1) - 0.1) < 0.03
    assert abs(mapping.score.mean() - 0.5) < 0.04


@pytest.mark.slow
def test_a_fitted_umap_keeps_types_together_and_the_reference_in_place(cells):
    reference, query = cells
    mapping = map_to_reference(reference, query)
    assert mapping.placed_by == "umap"
    again = map_to_reference(reference, query[:1])
    np.testing.assert_array_equal(again.reference, mapping.reference)
    assert again.query.shape == (1, 2)
    near = NearestNeighbors(n_neighbors=1).fit(mapping.reference).kneighbors(mapping.query)[1]
    same = near[:, 0] % 3 == np.arange(300, 380) % 3
    assert same.mean() > 0.95


def test_the_search_for_many_cells_finds_the_nearest(cells, monkeypatch):
    reference, query = cells
    exact = nearest_module.nearest(reference, query, 10)
    monkeypatch.setattr(nearest_module, "_MOST_PAIRS", 0)
    rows, distances = nearest_module.nearest(reference, query, 10)
    found = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(rows, exact[0], strict=True)])
    assert found > 0.98
    np.testing.assert_allclose(distances[:, 0], exact[1][:, 0], rtol=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": np.ones((2, 5))}, "8 dimensions and the query 5: embed both by the same model"),
        ({"reference": np.ones((2, 8))}, "three cells or more, got 2"),
        ({"coordinates": np.ones((300, 3))}, r"shape \(300, 3\), and should have \(300, 2\)"),
        ({"n_neighbors": 0}, "n_neighbors must be at least 1"),
    ],
)
def test_bad_input_is_named(cells, change, message):
    given = {"reference": cells[0], "query": cells[1], "coordinates": cells[0][:, :2], **change}
    with pytest.raises(ValueError, match=message):
        map_to_reference(**given)
