"""An argument that could have no effect is refused, whichever it is."""

from __future__ import annotations

from dataclasses import fields

import pytest

import scenc
from scenc.benchmark import Encoding, grid
from scenc.nn import ModelConfig
from scenc.train import TrainConfig

TINY = {"d_model": 16, "n_layers": 1, "d_feedforward": 32, "expression_hidden": 16}
# Another value than the default, and an encoder that has no use for it.
OF_ENCODERS = {
    "n_bins": (7, {"expression_encoder": "raw"}),
    "hard_edges": ("global", {"expression_encoder": "soft"}),
    "log_input": ("normalized", {"expression_encoder": "hard"}),
    "max_log_bin": (7, {"expression_encoder": "soft"}),
    "soft_bias": (False, {"expression_encoder": "log"}),
    "protein_input": ("l2", {"gene_encoder": "learned"}),
    "protein_output": ("matched", {"gene_encoder": "learned"}),
    "protein_missing": ("zero", {"gene_encoder": "learned"}),
}
# Settings that every network uses; the hidden widths are sizes of whichever encoder has an MLP.
OF_ALL = {"gene_encoder", "expression_encoder", "d_model", "n_layers", "n_heads", "d_feedforward",
          "dropout", "context", "target_sum", "norm", "activation", "expression_hidden",
          "protein_hidden", "init_std", "objective", "n_top_genes", "gene_init", "residual_init",
          "pooling", "seed"}  # fmt: skip
OF_DECODER = {"likelihood": "zinb", "decoder_hidden": 7}
OF_COUNTS = {"counts_weight": 2.0, "partner_share": 0.1, "kl_weight": 3.0, "decoder_steps": 3}
OF_CONTRAST = {"masked_weight": 2.0, "contrast_weight": 2.0, "anchor_weight": 1.0,
               "temperature": 0.1, "negatives": "all", "view_genes": 8, "view_depth": (0.1, 0.5),
               "n_neighbors": 3, "same_cell": 0.5}  # fmt: skip
# What each other setting of a training cannot stand beside; None: it always applies.
OF_TRAININGS = {
    "validation_size": (0.2, {"datamodule": True}),
    "test_size": (0.2, {"datamodule": True}),
    "validate_every": (3, {"validation_size": 0.0}),
    "cell_visits": (100, {"max_epochs": 1}),
    "patience": (3, {"early_stopping": False}),
    "num_workers": (1, {"datamodule": True}),
    "checkpoint_every": (3, {}),
    "resume": (True, {}),
    "overwrite": (True, {}),
    **dict.fromkeys(("max_epochs", "batch_size", "accumulate_grad_batches", "checkpoint_blocks",
                     "lr", "weight_decay", "betas", "warmup_steps", "max_warmup_share",
                     "min_lr_ratio", "gradient_clip", "mask_fraction")),
}  # fmt: skip


def test_every_setting_is_known_to_apply_or_not():
    assert {field.name for field in fields(ModelConfig)} == OF_ALL | {*OF_ENCODERS, *OF_DECODER}
    trainings = {field.name for field in fields(TrainConfig)}
    assert trainings <= {*OF_CONTRAST, *OF_COUNTS, *OF_TRAININGS}


@pytest.mark.parametrize(("name", "case"), OF_ENCODERS.items())
def test_settings_of_other_encoders_are_refused(adata, name, case):
    value, encoder = case
    scenc.Model.setup_anndata(adata)
    default = getattr(ModelConfig(), name)
    scenc.Model(adata, **encoder, **TINY, **{name: default})
    with pytest.raises(ValueError, match=f"{name}={value!r} cannot apply: it is of"):
        scenc.Model(adata, **encoder, **TINY, **{name: value})
    with pytest.raises(ValueError, match=f"{name}={value!r} cannot apply"):
        Encoding(**encoder, model={name: value}).settings(0)
    # A grid gives it to the encodings that have a use for it.
    settings = [encoding.settings(0)["model"] for encoding in grid(model={name: value})]
    assert 0 < sum(one[name] == value for one in settings) < len(settings)


@pytest.mark.parametrize(("name", "value"), OF_DECODER.items())
@pytest.mark.parametrize("objective", ["masked", "contrastive"])
def test_settings_of_the_decoder_are_refused_without_it(adata, name, value, objective):
    scenc.Model.setup_anndata(adata)
    with pytest.raises(ValueError, match=f"{name}=.* cannot apply: .* {objective!r}"):
        scenc.Model(adata, objective=objective, **TINY, **{name: value})


@pytest.mark.parametrize(("name", "value"), {**OF_CONTRAST, **OF_COUNTS}.items())
def test_settings_of_other_objectives_are_refused(trained, name, value):
    with pytest.raises(ValueError, match=f"{name}=.* cannot apply: .* objective='generative'"):
        trained.train(**{name: value})
    with pytest.raises(ValueError, match=f"{name}=.* cannot apply"):
        Encoding(training={name: value}).settings(0)


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, case in OF_TRAININGS.items() if case]
)
def test_settings_that_nothing_uses_are_refused(trained, atlas, name, case):
    value, beside = case
    if "datamodule" in beside:
        beside = {"datamodule": scenc.data.CellFiles(atlas[0][:1], progress=False)}
    with pytest.raises(ValueError, match=f"{name}={value!r} cannot apply"):
        trained.train(**{name: value}, **beside)


def test_masks_without_a_masked_term_are_refused(adata):
    scenc.Model.setup_anndata(adata)
    model = scenc.Model(adata, objective="contrastive", **TINY)
    with pytest.raises(ValueError, match="mask_fraction=0.4 cannot apply: masked_weight=0"):
        model.train(mask_fraction=0.4, masked_weight=0.0)


def test_embedded_files_have_their_own_layer(trained, atlas, tmp_path):
    cells = scenc.data.CellFiles(atlas[0][:1], progress=False)
    for argument in ({"layer": "X"}, {"gene_ids": "names"}):
        with pytest.raises(TypeError, match="belong to the CellFiles"):
            trained.embed_files(cells, tmp_path, **argument)
