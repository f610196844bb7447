"""Each score against its formula, or scikit-learn, on made-up cells."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from sklearn import metrics as sk

from scenc import metrics
from scenc.metrics._clusters import RESOLUTIONS, leiden_clusterings
from scenc.metrics._embedded_cells import prepare
from scenc.metrics._neighbors import nearest_neighbors, scib_metrics


def _lisi(embedding, groups, k):
    """Inverse Simpson's index of each cell, in double precision, one cell at a time."""
    distances = cdist(embedding, embedding)
    groups = np.unique(groups, return_inverse=True)[1]
    found = []
    for cell, row in enumerate(distances):
        others = np.argsort(row, kind="stable")
        others = others[others != cell][: k - 1]
        low, high = 0.0, 1e6
        for _ in range(200):
            beta = (low + high) / 2
            weights = np.exp(-beta * (row[others] - row[others].min()))
            weights /= weights.sum()
            entropy = -np.sum(weights * np.log(np.maximum(weights, 1e-300)))
            low, high = (beta, high) if entropy > np.log(k // 3) else (low, beta)
        found.append(1 / np.sum(np.bincount(groups[others], weights=weights) ** 2))
    return np.array(found)


@pytest.mark.parametrize("k", [30, 90])
def test_lisi_is_its_formula(blobs, k):
    embedding, batch, labels = blobs
    expected = np.median(_lisi(embedding, batch, k)) - 1
    assert metrics.ilisi(embedding, batch, n_neighbors=k) == pytest.approx(expected, abs=1e-4)
    expected = (3 - np.median(_lisi(embedding, labels, k))) / 2
    assert metrics.clisi(embedding, labels, n_neighbors=k) == pytest.approx(expected, abs=1e-4)


def test_label_asw_is_scikit_learns(blobs):
    embedding, _, labels = blobs
    expected = (sk.silhouette_score(embedding, labels) + 1) / 2
    assert metrics.label_asw(embedding, labels) == pytest.approx(expected, abs=1e-5)


def test_batch_asw_is_its_formula_and_scib_metrics(blobs):
    embedding, batch, labels = blobs
    expected = []
    for label in ("common", "other"):  # "rare" is in one batch
        of = labels == label
        expected.append(np.mean(1 - np.abs(sk.silhouette_samples(embedding[of], batch[of]))))
    score = metrics.batch_asw(embedding, batch, labels)
    assert score == pytest.approx(np.mean(expected), abs=1e-5)

    theirs = scib_metrics().silhouette_batch(embedding, labels, batch)
    assert score == pytest.approx(float(theirs), abs=1e-5)


def test_silhouettes_far_from_the_origin_stay_accurate(blobs):
    embedding, batch, labels = blobs
    far = embedding * 1e-3 + 1e4
    assert metrics.label_asw(far, labels) == pytest.approx(
        metrics.label_asw(embedding, labels), abs=1e-5
    )
    assert metrics.batch_asw(far, batch, labels) == pytest.approx(
        metrics.batch_asw(embedding, batch, labels), abs=1e-5
    )


def test_graph_connectivity_is_its_formula():
    rng = np.random.default_rng(1)
    embedding = rng.normal(size=(120, 2)) * 4
    labels = rng.choice(["a", "b", "c"], size=120)
    k = 6
    distances = cdist(embedding, embedding)
    neighbors = np.zeros((120, 120), dtype=bool)
    np.put_along_axis(neighbors, np.argsort(distances, axis=1)[:, :k], True, axis=1)
    either = neighbors | neighbors.T
    shares = []
    for label in "abc":
        of = labels == label
        component = connected_components(csr_matrix(either[np.ix_(of, of)]))[1]
        shares.append(np.bincount(component).max() / of.sum())
    assert np.mean(shares) < 0.9
    found = metrics.graph_connectivity(embedding, labels, n_neighbors=k)
    assert found == pytest.approx(np.mean(shares))


@pytest.mark.parametrize("leiden", ["igraph", "leidenalg"])
def test_nmi_ari_and_isolated_f1_come_from_the_same_clusterings(blobs, leiden):
    embedding, batch, labels = blobs
    embedding = embedding - 2.2 * np.repeat([0, 1, 2], [40, 30, 20])[:, None]  # labels overlap
    cells = prepare(embedding, batch, labels)
    clusterings = leiden_clusterings(cells.graph, implementation=leiden)
    assert clusterings.shape == (len(RESOLUTIONS), 90)
    truth = cells.labels.codes
    nmis = [sk.normalized_mutual_info_score(truth, c) for c in clusterings]
    best = int(np.argmax(nmis))
    rare = np.array(cells.labels.names)[truth] == "rare"
    f1 = max(sk.f1_score(rare, c == i) for c in clusterings for i in np.unique(c))

    scores = metrics.integration(embedding, batch, labels, leiden=leiden)
    assert scores.nmi == pytest.approx(nmis[best])
    assert scores.ari == pytest.approx(sk.adjusted_rand_score(truth, clusterings[best]))
    assert scores.isolated_labels_f1 == pytest.approx(f1)
    assert scores.resolution == RESOLUTIONS[best]
    assert scores.isolated_labels == ("rare",)
    assert 0.5 < scores.isolated_labels_f1 < 1


def test_clusterings_are_as_good_as_modularity_says(blobs):
    """No single cell can be moved to the better, at any resolution."""
    embedding, batch, labels = blobs
    graph = prepare(embedding, batch, labels).graph
    degree = np.asarray(graph.sum(axis=1)).ravel()
    for resolution, clusters in zip(RESOLUTIONS, leiden_clusterings(graph), strict=True):
        member = np.eye(clusters.max() + 1)[clusters]
        linked = graph @ member
        expected = resolution * np.outer(degree, degree @ member) / degree.sum()
        gain = linked - expected
        own = gain[np.arange(90), clusters] + resolution * degree**2 / degree.sum()
        gain[np.arange(90), clusters] = own
        assert (own >= gain.max(axis=1) - 1e-4).all()


def test_leiden_leaves_igraphs_random_numbers_alone(blobs):
    import random

    random.seed(3)
    expected = random.random()
    random.seed(3)
    metrics.nmi(blobs[0], blobs[2])
    assert random.random() == expected


def test_isolated_asw_is_the_mean_over_isolated_labels(blobs):
    embedding, batch, labels = blobs
    batch = np.where(labels == "other", "y", batch)
    silhouettes = sk.silhouette_samples(embedding, labels)
    expected = np.mean([silhouettes[labels == name].mean() for name in ("other", "rare")])
    found = metrics.isolated_labels_asw(embedding, batch, labels)
    assert found == pytest.approx((expected + 1) / 2, abs=1e-5)


def test_iso_threshold_widens_the_isolated_labels(blobs):
    embedding, batch, labels = blobs
    batch = np.where((labels == "common") & (np.arange(90) % 3 == 0), "z", batch)
    scores = metrics.integration(embedding, batch, labels, iso_threshold=2)
    assert scores.isolated_labels == ("other", "rare")


def test_neighbors_are_exact_and_start_with_the_cell_itself():
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(200, 5)).astype(np.float32)
    embedding[20:60] = embedding[20]  # more duplicates than neighbours
    found = nearest_neighbors(embedding, 15)
    assert (found.indices[:, 0] == np.arange(200)).all()
    assert (found.distances[:, 0] == 0).all()
    assert all(len(set(row)) == 15 for row in found.indices.tolist())
    expected = np.sort(cdist(embedding, embedding), axis=1)[:, :15]
    np.testing.assert_allclose(found.distances, expected, atol=1e-5)
