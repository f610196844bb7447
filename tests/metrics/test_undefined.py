"""What is undefined is NaN with a reason, what is wrong is an error that says so."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from scenc import metrics
from scenc.metrics import Score, integration

SCORES = (*metrics.BATCH_CORRECTION, *metrics.BIO_PRESERVATION)


def _undefined(scores):
    """Names of the scores that are NaN; each of them must have a reason, and no other."""
    names = {name for name in SCORES if math.isnan(getattr(scores, name))}
    assert names == set(scores.reasons)
    assert all(scores.reasons.values())
    return names


def test_all_defined(blobs):
    scores = integration(*blobs)
    assert not _undefined(scores)
    assert (scores.n_batch_correction, scores.n_bio_preservation) == (3, 6)
    expected = np.mean([scores.ilisi, scores.graph_connectivity, scores.batch_asw])
    assert scores.batch_correction == pytest.approx(expected)
    expected = np.mean([getattr(scores, name) for name in metrics.BIO_PRESERVATION])
    assert scores.bio_preservation == pytest.approx(expected)


@pytest.mark.parametrize("batch", [None, ["x"] * 90, [None] * 90, [np.nan] * 90])
def test_one_batch_or_none(blobs, batch):
    scores = integration(blobs[0], batch, blobs[2])
    assert _undefined(scores) == {
        "ilisi",
        "batch_asw",
        "isolated_labels_f1",
        "isolated_labels_asw",
    }
    assert scores.batch_correction == scores.graph_connectivity
    assert (scores.n_batch_correction, scores.n_bio_preservation) == (1, 4)
    assert scores.n_cells == 90
    if batch is None:
        reason = "no batch given"
    elif batch[0] == "x":
        reason = "there is only one batch, 'x'"
    else:
        reason = "no cell has a batch"
    assert scores.reasons["ilisi"] == reason


def test_one_label(blobs):
    scores = integration(blobs[0], blobs[1], ["T"] * 90)
    assert _undefined(scores) == set(metrics.BIO_PRESERVATION)
    assert scores.reasons["nmi"] == "there is only one label, 'T'"
    assert math.isnan(scores.bio_preservation)
    assert scores.n_bio_preservation == 0


@pytest.mark.parametrize("labels", [None, [pd.NA] * 90, ["unknown"] * 90])
def test_no_label(blobs, labels):
    scores = integration(blobs[0], blobs[1], labels)
    assert _undefined(scores) == set(SCORES) - {"ilisi"}
    assert "label" in scores.reasons["graph_connectivity"]
    assert scores.batch_correction == scores.ilisi


def test_nothing_given(blobs):
    scores = integration(blobs[0], None, None)
    assert _undefined(scores) == set(SCORES)
    assert math.isnan(scores.batch_correction)
    assert "mean of 0 of 3" in str(scores)


def test_every_label_in_every_batch(blobs):
    scores = integration(blobs[0], np.arange(90) % 2, blobs[2])
    assert _undefined(scores) == {"isolated_labels_f1", "isolated_labels_asw"}
    assert "every label is in all 2 batches" in scores.reasons["isolated_labels_f1"]
    assert scores.isolated_labels == ()


@pytest.mark.parametrize(("threshold", "why"), [(2, "only 2 batches"), (3, "only 2 batches")])
def test_threshold_that_isolates_all(blobs, threshold, why):
    assert why in metrics.isolated_labels_f1(*blobs, iso_threshold=threshold).reason


def test_threshold_that_isolates_none(blobs):
    embedding, _, labels = blobs
    batch = np.arange(90) % 3
    batch[(labels == "rare") & (batch == 2)] = 0
    score = metrics.isolated_labels_asw(embedding, batch, labels, iso_threshold=1)
    assert "every label is in 2 batches or more" in score.reason


def test_no_label_shared_by_batches(blobs):
    embedding, _, labels = blobs
    score = metrics.batch_asw(embedding, np.where(labels == "common", "x", "y"), labels)
    assert math.isnan(score)
    assert "no label has cells of two batches" in score.reason


def test_a_label_with_one_cell_is_noted(blobs):
    embedding, batch, labels = blobs
    labels = labels.astype(object)
    labels[0] = "lonely"
    scores = integration(embedding, batch, labels)
    assert _undefined(scores) == set()
    assert scores.isolated_labels == ("lonely", "rare")
    assert "'lonely'" in scores.notes[0]
    alone = metrics.label_asw(embedding, labels)
    assert alone == pytest.approx(scores.label_asw)

    labels[labels == "rare"] = "common"
    scores = integration(embedding, batch, labels)
    assert _undefined(scores) == {"isolated_labels_asw"}
    assert "single cell" in scores.reasons["isolated_labels_asw"]
    assert 0 < scores.isolated_labels_f1 < 0.5


def test_labels_that_all_have_one_cell(blobs):
    scores = integration(blobs[0], blobs[1], np.arange(90))
    assert {"label_asw", "batch_asw", "isolated_labels_asw"} <= _undefined(scores)
    assert scores.reasons["label_asw"] == "every cell has a label of its own"


@pytest.mark.parametrize("value", [0.0, 0.1, -1e30])
def test_constant_embedding(blobs, value):
    scores = integration(np.full((90, 4), value), *blobs[1:])
    assert _undefined(scores) == set(SCORES)
    assert set(scores.reasons.values()) == {"all cells have the same embedding"}
    classified = metrics.knn_classification(np.full((90, 4), value), blobs[2], min_cells=2)
    assert math.isnan(classified.accuracy)
    assert classified.reasons["macro_f1"] == "all cells have the same embedding"


def test_embedding_with_a_constant_column_and_many_duplicates(blobs):
    embedding, batch, labels = blobs
    embedding[:, 0] = 1
    embedding[:60] = embedding[0]
    scores = integration(embedding, batch, labels)
    assert not _undefined(scores)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_too_few_cells(blobs, n):
    scores = integration(*(array[:n] for array in blobs))
    assert _undefined(scores) == set(SCORES)
    assert not scores.n_batch_correction


def test_six_cells_are_enough():
    scores = integration(
        [[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]], list("xyxyxx"), list("aaabbb")
    )
    assert not {"ilisi", "clisi", "nmi", "label_asw"} & _undefined(scores)
    assert "LISI looks at 6 neighbours" in scores.notes[0]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, "unknown", "nan", ""])
def test_cells_without_label_are_left_out_and_counted(blobs, missing):
    embedding, batch, labels = blobs
    labels = labels.astype(object)
    labels[::9] = missing
    keep = np.arange(90) % 9 != 0
    scores = integration(embedding, batch, labels)
    assert (scores.n_cells, scores.n_unlabelled, scores.n_labels) == (80, 10, 3)
    assert "10 cells without label left out" in str(scores)
    expected = integration(embedding[keep], batch[keep], labels[keep])
    assert scores.to_dict() == expected.to_dict()


def test_missing_names_can_be_kept(blobs):
    embedding, batch, labels = blobs
    labels = np.where(labels == "rare", "unknown", labels)
    assert integration(embedding, batch, labels).n_labels == 2
    assert integration(embedding, batch, labels, missing=()).n_labels == 3
    assert integration(embedding, batch, labels, missing=["other"]).n_unlabelled == 30


def test_cells_without_batch_are_left_out_and_counted(blobs):
    embedding, batch, labels = blobs
    batch = pd.Series(batch, dtype="category")
    batch[:5] = np.nan
    scores = integration(embedding, batch, pd.Categorical(labels))
    assert (scores.n_cells, scores.n_unbatched, scores.n_batches) == (85, 5, 2)
    assert "5 cells without batch left out" in str(scores)


def test_unused_categories_do_not_count(blobs):
    embedding, batch, labels = blobs
    labels = pd.Categorical(labels, categories=["none", "common", "other", "rare", "more"])
    assert integration(embedding, batch, labels).to_dict() == integration(*blobs).to_dict()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_embedding_names_the_row(blobs, bad):
    embedding, batch, labels = blobs
    embedding[17, 2] = bad
    for score in (
        lambda: integration(embedding, batch, labels),
        lambda: metrics.knn_classification(embedding, labels),
        lambda: metrics.ilisi(embedding, batch),
    ):
        with pytest.raises(ValueError, match=rf"row 17 has {bad} in column 2 \(1 of 90 rows"):
            score()


def test_wrong_arguments_say_what_is_wrong(blobs):
    from scipy.sparse import csr_matrix

    embedding, batch, labels = blobs
    with pytest.raises(ValueError, match="labels has 89 values but embedding has 90 rows"):
        integration(embedding, batch, labels[1:])
    with pytest.raises(ValueError, match=r"batch must have shape \(n_cells,\)"):
        integration(embedding, batch[:, None], labels)
    with pytest.raises(TypeError, match=r"pass the column itself, adata.obs\['cell_type'\]"):
        integration(embedding, batch, "cell_type")
    with pytest.raises(ValueError, match=r"shape \(n_cells, n_dims\), got \(90,\)"):
        integration(embedding[:, 0], batch, labels)
    with pytest.raises(ValueError, match="no columns"):
        integration(embedding[:, :0], batch, labels)
    with pytest.raises(TypeError, match="sparse"):
        integration(csr_matrix(embedding), batch, labels)
    with pytest.raises(TypeError, match="real numbers"):
        integration(labels[:, None], batch, labels)
    with pytest.raises(ValueError, match="Did you mean 'nmi'"):
        integration(embedding, batch, labels, metrics=["nmii"])
    with pytest.raises(ValueError, match="leiden must be one of"):
        integration(embedding, batch, labels, leiden="louvain")
    with pytest.raises(ValueError, match="n_neighbors"):
        metrics.nmi(embedding, labels, n_neighbors=1)
    with pytest.raises(ValueError, match="lisi_neighbors"):
        integration(embedding, batch, labels, lisi_neighbors=3)
    with pytest.raises(ValueError, match="resolutions"):
        metrics.ari(embedding, labels, resolutions=[])
    with pytest.raises(ValueError, match="iso_threshold"):
        metrics.isolated_labels_f1(embedding, batch, labels, iso_threshold=0)


def test_scores_not_asked_for(blobs):
    scores = integration(*blobs, metrics=["ilisi", "label_asw"])
    assert _undefined(scores) == set(SCORES) - {"ilisi", "label_asw"}
    assert set(scores.reasons.values()) == {"not asked for"}
    assert scores.batch_correction == scores.ilisi


def test_a_score_is_a_float_with_a_reason():
    score = Score(0.5)
    assert score == 0.5
    assert score.reason is None
    assert repr(score) == "0.5"
    nothing = Score.undefined("why")
    assert math.isnan(nothing)
    assert nothing.reason == "why"
    with pytest.raises(ValueError, match="reason"):
        Score(math.nan)
    with pytest.raises(ValueError, match="reason"):
        Score(0.5, "why")


def test_single_functions_agree_with_integration(blobs):
    embedding, batch, labels = blobs
    scores = integration(embedding, batch, labels)
    single = {
        "ilisi": metrics.ilisi(embedding, batch),
        "graph_connectivity": metrics.graph_connectivity(embedding, labels),
        "batch_asw": metrics.batch_asw(embedding, batch, labels),
        "label_asw": metrics.label_asw(embedding, labels),
        "clisi": metrics.clisi(embedding, labels),
        "nmi": metrics.nmi(embedding, labels),
        "ari": metrics.ari(embedding, labels),
        "isolated_labels_f1": metrics.isolated_labels_f1(embedding, batch, labels),
        "isolated_labels_asw": metrics.isolated_labels_asw(embedding, batch, labels),
    }
    assert set(single) == set(SCORES)
    for name, value in single.items():
        assert isinstance(value, Score)
        assert value == pytest.approx(getattr(scores, name), abs=1e-6), name
