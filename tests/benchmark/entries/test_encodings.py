"""What may be compared, and under which name."""

from __future__ import annotations

import itertools

import pytest

from scenc.benchmark import PCA, SCVI, Encoding, Untrained, grid
from scenc.benchmark.entries._entries import make_entries
from scenc.benchmark.entries._fingerprint import digest


def test_the_grid_is_the_papers_eight():
    pairs = [(e.gene_encoder, e.expression_encoder) for e in grid()]
    assert pairs == list(itertools.product(("learned", "protein"), ("raw", "hard", "log", "soft")))
    assert {e.kind for e in grid()} == {"encoding"}


def test_controls_show_the_depth_and_change_nothing_else():
    shared = {"model": {"context": 64}, "training": {"max_epochs": 2}}
    encodings = {e.title("ESM-2"): e for e in grid(controls=True, **shared)}
    assert len(encodings) == 12
    for genes in ("learned", "ESM-2"):
        hard, shown = (
            encodings[f"{genes} + hard{remark}"].settings(0) for remark in ("", " (global edges)")
        )
        assert {k for k in hard["model"] if hard["model"][k] != shown["model"][k]} == {"hard_edges"}
        assert shown["model"]["hard_edges"] == "global"
        log, shown = (
            encodings[f"{genes} + log{remark}"].settings(0) for remark in ("", " (of x~)")
        )
        assert {k for k in log["model"] if log["model"][k] != shown["model"][k]} == {"log_input"}
        assert hard["training"] == shown["training"]
        assert shown["training"]["max_epochs"] == 2
    assert [e.kind for e in encodings.values()].count("control") == 4
    assert len(grid(controls=["learned"])) == 10
    with pytest.raises(ValueError, match="Did you mean 'learned'"):
        grid(gene_encoders=["learned"], controls=["lerned"])


def test_depth_tokens_are_added_to_each_encoding_and_change_nothing_else():
    encodings = grid(controls=True, depth_tokens=True)
    assert len(encodings) == 8 + 4 + 8
    for plain, deep in zip(encodings[:8], encodings[12:], strict=True):
        assert deep.title("ESM-2") == f"{plain.title('ESM-2')} (with depth token)"
        assert deep.kind == "control"
        assert deep.settings(0)["model"] == plain.settings(0)["model"] | {"depth_token": True}
        assert deep.settings(0)["training"] == plain.settings(0)["training"]
    assert len(grid(depth_tokens=["protein"])) == 12
    with pytest.raises(ValueError, match="depth_tokens: a gene encoder of the grid"):
        grid(gene_encoders=["learned"], depth_tokens=["protein"])


def test_settings_by_which_results_are_stored_stay_as_they_are():
    """These are the digests before there were options that the paper does not have."""
    small = digest([encoding.settings(0) for encoding in grid(controls=True)])
    assert small == "f59dff79293b808a90eb9f62117f8a0213be2630715f4f4bdee69e67fc3a0c18"
    paper = digest([encoding.settings(777) for encoding in grid("paper")])
    assert paper == "b650c15085ec3d68f4c40bb44290e1f9625a77c50d251e793723f00f81b6235d"


def test_the_objective_is_the_papers_whatever_the_presets():
    settings = [encoding.settings(0)["model"] for encoding in grid("small", controls=True)]
    assert {of["objective"] for of in settings} == {"masked"}
    assert {of["pooling"] for of in settings} == {"mean"}
    assert grid("small", objective="contrastive")[0].settings(0)["model"]["objective"] != "masked"


def test_settings_are_whole_and_follow_the_preset():
    settings = Encoding(preset="paper").settings(777)
    model, training = settings["model"], settings["training"]
    # Table 1 of the paper.
    assert (model["d_model"], model["n_layers"], model["n_heads"]) == (512, 12, 8)
    assert (model["d_feedforward"], model["dropout"], model["context"]) == (1024, 0.1, 1024)
    assert model["seed"] == 777
    assert training["batch_size"] * training["accumulate_grad_batches"] == 16_384
    assert (training["max_epochs"], training["lr"], training["weight_decay"]) == (3, 3e-4, 1e-5)
    assert (training["betas"], training["gradient_clip"]) == ((0.9, 0.95), 1.0)
    assert (training["warmup_steps"], training["patience"]) == (2000, 100)
    assert (training["mask_fraction"], training["validation_size"]) == (0.5, 0.001)
    assert Encoding(training={"betas": [0.9, 0.99]}).settings(0)["training"]["betas"] == (0.9, 0.99)
    assert Encoding(training={"devices": 2}).settings(0)["training"]["devices"] == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"gene_encoder": "lerned"}, ValueError, "Did you mean 'learned'"),
        ({"expression_encoder": "softt"}, ValueError, "Did you mean 'soft'"),
        ({"kind": "baseline"}, ValueError, "kind"),
        ({"model": {"seed": 3}}, TypeError, "once for each of seeds"),
        ({"model": {"preset": "base"}}, TypeError, "preset is an argument of the encoding"),
        ({"objective": "maskd"}, ValueError, "Did you mean 'masked'"),
        ({"model": {"contxt": 3}}, TypeError, "Did you mean 'context'"),
        ({"model": {"context": 0}}, ValueError, "context must be a positive integer"),
        ({"training": {"max_epoch": 3}}, TypeError, "Did you mean 'max_epochs'"),
        ({"training": {"enable_progress_bar": True}}, TypeError, "enable_progress_bar"),
        ({"preset": "tiny"}, ValueError, "preset must be one of"),
    ],
)
def test_wrong_settings_are_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        Encoding(**arguments).settings(0)


class Mine:
    def fit(self, adata, batch_key=None, seed=0):
        return self

    def embed(self, adata):
        return adata.X.toarray()


def names_and_kinds(*arguments):
    return [(entry.name, entry.kind) for entry in make_entries(*arguments)]


def test_entries_have_names_and_kinds():
    encodings = [*grid(expression_encoders=["soft"]), Mine()]
    baselines = ["PCA", {"scVI": {"max_epochs": 3}}, "untrained"]
    assert names_and_kinds(encodings, baselines, "text (MiniLM)") == [
        ("learned + soft", "encoding"),
        ("text (MiniLM) + soft", "encoding"),
        ("Mine", "encoding"),
        ("PCA", "baseline"),
        ("scVI", "baseline"),
        ("untrained (learned + soft)", "baseline"),
    ]
    assert names_and_kinds({"best": Mine(), "plain": Encoding()}, [Mine()], None) == [
        ("best", "encoding"),
        ("plain", "encoding"),
        ("Mine", "baseline"),
    ]
    all_untrained = make_entries(grid(), [{"untrained": {"encodings": "all"}}], None)
    assert sum(isinstance(entry.method, Untrained) for entry in all_untrained) == 8
    assert all_untrained[-1].name == "untrained (protein + soft)"


def test_baselines_see_the_evaluation_set_and_have_no_encoders():
    for entry in make_entries([], [PCA(), SCVI(max_epochs=2)], None):
        assert entry.fits_evaluation
        assert entry.gene_encoder is entry.expression_encoder is None
    untrained = make_entries([Encoding()], ["untrained"], None)[1]
    assert not untrained.fits_evaluation
    assert untrained.gene_encoder is None


@pytest.mark.parametrize(
    ("encodings", "baselines", "error", "message"),
    [
        ([Encoding(), Encoding()], [], ValueError, "Two entries are called 'learned \\+ soft'"),
        ([], [], ValueError, "nothing to compare"),
        ([], ["untrained"], ValueError, "needs a scenc encoding"),
        ([object()], [], TypeError, "fit\\(adata, batch_key=..., seed=...\\)"),
        ([Mine], [], TypeError, "the class Mine"),
        ([], ["PAC"], ValueError, "Did you mean 'PCA'"),
        ([], [{"scVI": {"epochs": 3}}], TypeError, "Did you mean 'max_epochs'"),
        ([Encoding()], [{"untrained": {"encodings": "soft"}}], ValueError, "must be one of"),
        ([{"gene_encodr": "learned"}], [], TypeError, "Did you mean 'gene_encoder'"),
    ],
)
def test_what_cannot_be_compared_is_refused(encodings, baselines, error, message):
    with pytest.raises(error, match=message):
        make_entries(encodings, baselines, None)
