from __future__ import annotations

from dataclasses import asdict

import pytest

from scenc.model import OBJECTIVES, PRESETS, Model, get_preset
from scenc.nn import ModelConfig
from scenc.train import TrainConfig

# Table 1 of the paper.
TABLE_1 = {
    "d_model": 512,
    "n_layers": 12,
    "n_heads": 8,
    "d_feedforward": 1024,
    "dropout": 0.1,
    "context": 1024,
    "seed": 777,
    "batch_size": 512,
    "accumulate_grad_batches": 32,
    "max_epochs": 3,
    "lr": 3e-4,
    "weight_decay": 1e-5,
    "betas": (0.9, 0.95),
    "gradient_clip": 1.0,
    "warmup_steps": 2000,
    "patience": 100,
    "validation_size": 0.001,
    "test_size": 0.001,
    "mask_fraction": 0.5,
    "expression_hidden": 512,
    "max_log_bin": 10,
}


def test_paper_is_table_1():
    preset = PRESETS["paper"]
    settings = {**asdict(ModelConfig(**preset.model)), **asdict(TrainConfig(**preset.train))}
    assert {name: settings[name] for name in TABLE_1} == TABLE_1


@pytest.mark.parametrize(("encoder", "n_bins"), [("hard", 50), ("soft", 20), ("log", 11)])
def test_numbers_of_bins_are_the_papers(encoder, n_bins):
    assert ModelConfig(expression_encoder=encoder).n_expression_bins == n_bins


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name):
    ModelConfig.from_dict(PRESETS[name].model)
    TrainConfig.from_dict(PRESETS[name].train)
    for objective in ("masked", "contrastive"):
        preset = get_preset(name, objective)
        assert ModelConfig.from_dict(preset.model).objective == objective
        TrainConfig.from_dict(preset.train)


def test_what_an_objective_changes_of_the_papers_sizes_is_listed():
    for objective, changes in OBJECTIVES.items():
        preset = get_preset("paper", objective)
        assert preset.model == {**PRESETS["paper"].model, **changes.model}
        assert preset.train == {**PRESETS["paper"].train, **changes.train}


def test_small_makes_a_model_without_dropout(adata):
    Model.setup_anndata(adata)
    model = Model(adata)
    assert model.preset == "small"
    assert model.config.dropout == 0
    assert asdict(model.config).items() >= get_preset("small").model.items()


def test_small_has_its_own_sizes_for_the_masked_objective(adata):
    Model.setup_anndata(adata)
    model = Model(adata, objective="masked")
    assert asdict(model.config).items() >= PRESETS["small"].model.items()


def test_overrides_win_over_the_preset(adata):
    Model.setup_anndata(adata)
    model = Model(adata, preset="base", d_model=8, n_layers=1)
    assert (model.config.d_model, model.config.n_layers) == (8, 1)
    assert model.config.dropout == PRESETS["base"].model["dropout"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"preset": "smal"}, ValueError, r"preset must be one of .*Did you mean 'small'"),
        ({"gene_encoder": "learnt"}, ValueError, r"gene_encoder must be .*Did you mean 'learned'"),
        ({"expression_encoder": "bins"}, ValueError, "expression_encoder must be one of"),
        ({"d_mdoel": 8}, TypeError, r"'d_mdoel'.*Did you mean 'd_model'"),
        ({"d_model": 0}, ValueError, "d_model"),
        ({"d_model": 10, "n_heads": 3}, ValueError, "multiple"),
        ({"gene_encoder": "protein"}, ValueError, "needs protein_embeddings"),
    ],
)
def test_bad_arguments_are_refused(adata, arguments, error, message):
    Model.setup_anndata(adata)
    with pytest.raises(error, match=message):
        Model(adata, **arguments)


def test_vectors_for_a_learned_encoder_are_refused(adata, make_vectors):
    Model.setup_anndata(adata)
    with pytest.raises(ValueError, match="gene_encoder is not 'protein'"):
        Model(adata, protein_embeddings=make_vectors(adata.var_names))
