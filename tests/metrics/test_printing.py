from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest

from scenc import metrics
from scenc.metrics import BATCH_CORRECTION, BIO_PRESERVATION, Score, integration


def test_scores_print_as_a_table(blobs):
    scores = integration(*blobs)
    text = str(scores)
    assert text.startswith("90 cells, 2 batches, 3 labels\n")
    assert "mean of 3 of 3" in text
    assert f"iLISI                       {scores.ilisi:.3f}" in text
    assert f"at Leiden resolution {scores.resolution:g}" in text
    assert max(map(len, text.splitlines()[:12])) <= 90


def test_scores_show_as_html(blobs):
    embedding, _, labels = blobs
    html = integration(embedding, ["<b>"] * 90, labels)._repr_html_()
    assert html.count("<tr>") == 11
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


def test_scores_as_dict_and_series(blobs):
    scores = integration(*blobs)
    values = scores.to_dict()
    assert set(values) == {
        *BATCH_CORRECTION,
        *BIO_PRESERVATION,
        "batch_correction",
        "bio_preservation",
    }
    assert all(type(value) is float for value in values.values())
    assert scores.to_series()["nmi"] == scores.nmi
    assert np.isfinite(list(scores.seconds.values())).all()
    assert {"neighbors", "graph", "clusterings"} < set(scores.seconds)


def test_scores_are_equal_frozen_and_can_be_sent(blobs):
    scores = integration(*blobs)
    assert scores == integration(*blobs)
    assert pickle.loads(pickle.dumps(scores)) == scores
    with pytest.raises(AttributeError):
        scores.nmi = 1.0
    score = pickle.loads(pickle.dumps(Score.undefined("why")))
    assert score.reason == "why"


@pytest.mark.parametrize("name", [*BATCH_CORRECTION, *BIO_PRESERVATION])
def test_help_explains_every_argument_of_a_metric(name):
    metric = getattr(metrics, name)
    help_ = inspect.getdoc(metric)
    explained = help_.split("Parameters\n----------\n")[1].split("\n\n")[0].splitlines()
    assert [line for line in explained if line[0] != " "] == [*inspect.signature(metric).parameters]
    assert "Shape ``(n_cells, n_dims)``" in help_
    assert "Raises\n------\nTypeError, ValueError\n    If" in help_
    assert "{parameters}" not in help_
    assert "{errors}" not in help_
