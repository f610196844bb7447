from __future__ import annotations

import pytest

from scenc.nn import ModelConfig


@pytest.mark.parametrize(
    "name",
    ["gene_encoder", "expression_encoder", "norm", "activation", "hard_edges", "log_input",
     "protein_missing"],
)  # fmt: skip
def test_unknown_choices_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name} must be one of .* got 'nonsense'"):
        ModelConfig(**{name: "nonsense"})


def test_a_near_choice_is_suggested():
    with pytest.raises(ValueError, match="Did you mean 'soft'"):
        ModelConfig(expression_encoder="sofft")


@pytest.mark.parametrize("value", [0, -1, 1.5, "16", True, None])
@pytest.mark.parametrize(
    "name",
    ["d_model", "n_layers", "n_heads", "d_feedforward", "expression_hidden", "protein_hidden",
     "max_log_bin"],
)  # fmt: skip
def test_sizes_must_be_positive_integers(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive integer"):
        ModelConfig(**{name: value})


@pytest.mark.parametrize("name", ["context", "n_bins"])
def test_optional_sizes_may_be_none_but_not_wrong(name):
    assert getattr(ModelConfig(**{name: None}), name) is None
    with pytest.raises(ValueError, match=name):
        ModelConfig(**{name: 0})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"d_model": 10, "n_heads": 4}, "multiple of n_heads"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
        ({"target_sum": 0}, "target_sum"),
    ],
)
def test_values_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**settings)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(TypeError, match=r"'d_modell'.*Did you mean 'd_model'"):
        ModelConfig.from_dict({"d_modell": 8})


def test_later_options_are_told_only_where_they_are_asked_for():
    old = ModelConfig().to_dict()
    assert "depth_token" not in old
    assert "expression_hidden" in old
    asked = {"depth_token": True, "encoder_norm": True, "expression_input": "log_share"}
    assert ModelConfig(**asked).to_dict() == old | asked
    for config in (ModelConfig(), ModelConfig(**asked)):
        assert ModelConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder_norm": True},
        {"gene_encoder": "protein", "protein_projection": "fixed"},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_gene_vectors_that_cannot_be_given_refuse_a_spectral_start(settings):
    with pytest.raises(ValueError, match="gene_init='spectral' cannot apply beside"):
        ModelConfig(gene_init="spectral", **settings)
    assert ModelConfig(**settings).gene_init == "random"
