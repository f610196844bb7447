from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scenc._arguments import choose


@dataclass(frozen=True, slots=True)
class Preset:
    """Sizes of a network and settings of its training that belong together.

    Attributes
    ----------
    model
        Arguments of `scenc.nn.ModelConfig`.
    train
        Arguments of `scenc.train.TrainConfig`.
    objective
        What is trained for unless the user says otherwise.

    Examples
    --------
    >>> preset = scenc.model.get_preset("small", "masked")
    >>> preset.objective, preset.model["d_model"], preset.train["batch_size"]
    ('masked', 64, 64)
    """

    model: dict[str, Any]
    train: dict[str, Any]
    objective: str = "masked"


# What users choose from: each preset for each objective, whole.
_ENTRIES = {
    # A laptop's CPU: minutes for thousands of cells.
    ("small", "masked"): Preset(
        model={
            "d_model": 64,
            "n_layers": 2,
            "n_heads": 2,
            "d_feedforward": 128,
            "context": 256,
            "objective": "masked",
        },
        train={"max_epochs": 10, "batch_size": 64, "lr": 1e-3},
        objective="masked",
    ),
    # One layer, since each cell is seen twice a step. Views are short, so that embeddings can
    # afford all genes.
    ("small", "contrastive"): Preset(
        model={
            "d_model": 64,
            "n_layers": 1,
            "n_heads": 2,
            "d_feedforward": 128,
            "context": None,
            "objective": "contrastive",
            "n_top_genes": 2000,
            "gene_init": "spectral",
            "residual_init": "zero",
            "pooling": "expression",
        },
        train={"max_epochs": None, "batch_size": 128, "lr": 2e-3, "mask_fraction": 0.2},
        objective="contrastive",
    ),
    ("small", "generative"): Preset(
        model={
            "d_model": 64,
            "n_layers": 1,
            "n_heads": 2,
            "d_feedforward": 128,
            "context": None,
            "objective": "generative",
            "n_top_genes": 2000,
            "gene_init": "spectral",
            "residual_init": "zero",
            "pooling": "expression",
        },
        train={
            "max_epochs": None,
            "batch_size": 128,
            "lr": 2e-3,
            "mask_fraction": 0.2,
            "anchor_weight": 0.0,
            "masked_weight": 0.0,
            "kl_weight": 2.0,
        },
        objective="generative",
    ),
    # One GPU: hours for hundreds of thousands of cells.
    ("base", "masked"): Preset(
        model={
            "d_model": 256,
            "n_layers": 6,
            "n_heads": 8,
            "d_feedforward": 1024,
            "dropout": 0.1,
            "context": 1024,
            "objective": "masked",
        },
        train={"max_epochs": 20, "batch_size": 256, "lr": 5e-4},
        objective="masked",
    ),
    ("base", "contrastive"): Preset(
        model={
            "d_model": 256,
            "n_layers": 6,
            "n_heads": 8,
            "d_feedforward": 1024,
            "dropout": 0.1,
            "context": None,
            "objective": "contrastive",
            "n_top_genes": 2000,
            "gene_init": "spectral",
            "residual_init": "zero",
            "pooling": "expression",
        },
        train={
            "max_epochs": None,
            "cell_visits": 1_000_000,
            "batch_size": 256,
            "lr": 5e-4,
            "mask_fraction": 0.2,
            "view_genes": 512,
        },
        objective="contrastive",
    ),
    ("base", "generative"): Preset(
        model={
            "d_model": 256,
            "n_layers": 6,
            "n_heads": 8,
            "d_feedforward": 1024,
            "dropout": 0.1,
            "context": None,
            "objective": "generative",
            "n_top_genes": 2000,
            "gene_init": "spectral",
            "residual_init": "zero",
            "pooling": "expression",
        },
        train={
            "max_epochs": None,
            "cell_visits": 1_000_000,
            "batch_size": 256,
            "lr": 5e-4,
            "mask_fraction": 0.2,
            "view_genes": 512,
            "anchor_weight": 0.0,
            "masked_weight": 0.0,
            "kl_weight": 2.0,
        },
        objective="generative",
    ),
    # Table 1 of the paper: 10 million cells on many GPUs.
    ("paper", "masked"): Preset(
        model={
            "d_model": 512,
            "n_layers": 12,
            "n_heads": 8,
            "d_feedforward": 1024,
            "dropout": 0.1,
            "context": 1024,
            "seed": 777,
            "objective": "masked",
        },
        train={
            "max_epochs": 3,
            "batch_size": 512,
            "accumulate_grad_batches": 32,
            "lr": 3e-4,
            "weight_decay": 1e-5,
            "betas": (0.9, 0.95),
            "gradient_clip": 1.0,
            "warmup_steps": 2000,
            "mask_fraction": 0.5,
            "validation_size": 0.001,
            "test_size": 0.001,
            "patience": 100,
        },
        objective="masked",
    ),
    ("paper", "contrastive"): Preset(
        model={
            "d_model": 512,
            "n_layers": 12,
            "n_heads": 8,
            "d_feedforward": 1024,
            "dropout": 0.1,
            "context": 1024,
            "seed": 777,
            "objective": "contrastive",
            "n_top_genes": 2000,
            "gene_init": "spectral",
            "residual_init": "zero",
            "pooling": "expression",
        },
        train={
            "max_epochs": None,
            "batch_size": 128,
            "accumulate_grad_batches": 32,
            "lr": 2e-3,
            "weight_decay": 1e-5,
            "betas": (0.9, 0.95),
            "gradient_clip": 1.0,
            "warmup_steps": 2000,
            "mask_fraction": 0.2,
            "validation_size": 0.001,
            "test_size": 0.001,
            "patience": 100,
        },
        objective="contrastive",
    ),
    ("paper", "generative"): Preset(
        model={
            "d_model": 512,
            "n_layers": 12,
            "n_heads": 8,
            "d_feedforward": 1024,
            "dropout": 0.1,
            "context": 1024,
            "seed": 777,
            "objective": "generative",
            "n_top_genes": 2000,
            "gene_init": "spectral",
            "residual_init": "zero",
            "pooling": "expression",
        },
        train={
            "max_epochs": None,
            "batch_size": 128,
            "accumulate_grad_batches": 32,
            "lr": 2e-3,
            "weight_decay": 1e-5,
            "betas": (0.9, 0.95),
            "gradient_clip": 1.0,
            "warmup_steps": 2000,
            "mask_fraction": 0.2,
            "validation_size": 0.001,
            "test_size": 0.001,
            "patience": 100,
            "anchor_weight": 0.0,
            "masked_weight": 0.0,
            "kl_weight": 2.0,
        },
        objective="generative",
    ),
}
_DEFAULT_OBJECTIVES = {"small": "generative", "base": "generative", "paper": "masked"}

# Each preset's sizes and settings for the masked objective, and its default objective.
PRESETS = {
    name: Preset(
        {key: value for key, value in _ENTRIES[name, "masked"].model.items() if key != "objective"},
        _ENTRIES[name, "masked"].train,
        objective,
    )
    for name, objective in _DEFAULT_OBJECTIVES.items()
}

# What each objective needs of a network and its training, whatever the sizes.
OBJECTIVES = {
    "masked": Preset(model={"objective": "masked"}, train={}),
    "contrastive": Preset(
        model={
            "objective": "contrastive",
            "n_top_genes": 2000,
            "gene_init": "spectral",
            "residual_init": "zero",
            "pooling": "expression",
        },
        train={"max_epochs": None, "batch_size": 128, "lr": 2e-3, "mask_fraction": 0.2},
        objective="contrastive",
    ),
    "generative": Preset(
        model={
            "objective": "generative",
            "n_top_genes": 2000,
            "gene_init": "spectral",
            "residual_init": "zero",
            "pooling": "expression",
        },
        train={
            "max_epochs": None,
            "batch_size": 128,
            "lr": 2e-3,
            "mask_fraction": 0.2,
            "anchor_weight": 0.0,
            "masked_weight": 0.0,
            "kl_weight": 2.0,
        },
        objective="generative",
    ),
}


def get_preset(name: str, objective: str | None = None) -> Preset:
    """Return a preset for an objective.

    Parameters
    ----------
    name
        ``"small"``, ``"base"`` or ``"paper"``.
    objective
        ``"masked"``, ``"contrastive"`` or ``"generative"``; ``None``: the preset's default.

    Raises
    ------
    ValueError
        There is no such preset or objective.

    Examples
    --------
    >>> scenc.model.get_preset("paper").train["batch_size"]
    512
    """
    default = PRESETS[choose(name, PRESETS, "preset")].objective
    entry = _ENTRIES[name, choose(objective or default, OBJECTIVES, "objective")]
    return Preset(dict(entry.model), dict(entry.train), entry.objective)
