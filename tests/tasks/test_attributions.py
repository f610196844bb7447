import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scenc.nn import CellTransformer, ModelConfig
from scenc.tasks import (
    Attributions,
    attribute_tokens,
    fit_directions,
    read_directions,
    require_captum,
)


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    places = rng.normal(size=(3, 5))[labels] * 2 + rng.normal(size=(150, 5))
    return places, np.array(["B", "NK", "T"])[labels]


def test_scores_are_those_of_scikit_learn(blobs):
    places, labels = blobs
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(places, labels)
    found = read_directions(model, width=5)
    assert found.types.tolist() == ["B", "NK", "T"]
    np.testing.assert_allclose(found.scores(places), model.decision_function(places))
    assert (found.types[found.predict(places)] == model.predict(places)).all()
    alone = LogisticRegression().fit(places, labels)
    np.testing.assert_allclose(
        read_directions(alone).scores(places), alone.decision_function(places)
    )


def test_two_types_share_one_direction(blobs):
    places, labels = blobs
    some = labels != "T"
    model = LogisticRegression().fit(places[some], labels[some])
    scores = read_directions(model).scores(places)
    np.testing.assert_allclose(scores[:, 1] - scores[:, 0], model.decision_function(places))
    np.testing.assert_allclose(scores.sum(axis=1), 0, atol=1e-12)


def test_fitted_directions_tell_types_apart(blobs):
    places, labels = blobs
    found = fit_directions(places, labels)
    assert (found.types[found.predict(places)] == labels).mean() > 0.9


def test_directions_of_a_table(blobs):
    table = pd.DataFrame(np.eye(5)[:2], ["up", "down"])
    found = read_directions(table, width=5)
    np.testing.assert_array_equal(found.scores(blobs[0]), blobs[0][:, :2])


def test_what_is_not_linear_is_refused(blobs):
    places, labels = blobs
    forest = RandomForestClassifier(2).fit(places, labels)
    with pytest.raises(TypeError, match="linear classifier of scikit-learn.*RandomForest"):
        read_directions(forest)
    with pytest.raises(ValueError, match="for 5 dimensions, and the model's embedding has 16"):
        read_directions(LogisticRegression().fit(places, labels), width=16)
    with pytest.raises(ValueError, match="two types or more"):
        fit_directions(places, ["B"] * 150)


def test_captum_is_named_by_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match=r"pip install 'scenc\[explain\]'"):
        require_captum()


def network_of(**settings):
    torch.manual_seed(0)
    sizes = {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_feedforward": 16, "context": None}
    return CellTransformer(ModelConfig(**{**sizes, **settings}), n_genes=30).eval()


def inputs_of(network, batch):
    rng = np.random.default_rng(0)
    weights = torch.from_numpy(rng.normal(size=(batch.n_cells, 8))).float()
    return weights, torch.from_numpy(rng.normal(size=batch.n_cells)).float()


@pytest.mark.parametrize("pooling", ["mean", "expression"])
@pytest.mark.parametrize("expression_encoder", ["raw", "hard", "log", "soft"])
@pytest.mark.parametrize("by_mask", [True, False])
def test_contributions_add_up(make_batch, pooling, expression_encoder, by_mask):
    network = network_of(objective="masked", pooling=pooling, expression_encoder=expression_encoder)
    batch = make_batch(totals=pooling == "expression", quantile_bins=network.config.quantile_bins)
    weights, offsets = inputs_of(network, batch)
    found, end, start = attribute_tokens(network, batch, weights, offsets, by_mask, 64)
    with torch.no_grad():
        score = (network.embed_cells(batch) * weights).sum(dim=1) + offsets
    torch.testing.assert_close(end, score)
    torch.testing.assert_close(found.sum(dim=1), end - start, rtol=1e-2, atol=2e-3)
    assert not found[~batch.valid].any()


def test_contributions_of_an_untouched_token_are_exact(make_batch):
    # Blocks that change nothing: a token contributes its weight times its vector.
    network = network_of(objective="masked", pooling="expression", residual_init="zero")
    torch.nn.init.normal_(network.expression_encoder.table.weight)
    batch = make_batch(totals=True)
    weights, offsets = inputs_of(network, batch)
    found, _, _ = attribute_tokens(network, batch, weights, offsets, False, 20)
    with torch.no_grad():
        vectors = network.embed_tokens(batch) @ weights[:, :, None]
    expected = batch.values() * vectors[..., 0] / 30**0.5
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.fixture
def found():
    genes = [f"G{i}" for i in range(6)]
    table = pd.DataFrame({"B": [5.0, 4, 3, 2, 1, 0], "T": [0.0, 1, 2, 3, 4, 5]}, genes)
    wilcoxon = pd.DataFrame({"B": [9.0, 8, 1, 7, 2, 0], "T": [np.nan] * 6}, genes)
    types = table.columns
    return Attributions(
        table, wilcoxon, pd.Series([0.01, 0.02], types), pd.Series([30, 1000], types)
    )


def test_agreement_with_the_test(found):
    agreement = found.agreement(n=3)
    assert agreement.loc["B", "shared_top"] == pytest.approx(2 / 3)
    assert agreement.loc["B", "spearman"] == pytest.approx(
        found.table["B"].corr(found.wilcoxon["B"], method="spearman")
    )
    assert np.isnan(agreement.loc["T", "spearman"])


def test_attributions_print_as_a_table(found):
    lines = str(found).splitlines()
    assert lines[0] == "Attributions: 6 genes, 2 types"
    assert lines[2].split()[:4] == ["B", "30", "1.0%", "0.83"]
    assert "G0, G1, G2, G3, G4" in lines[2]
    assert "1,000" in lines[3]
    assert "<td" in found._repr_html_()
