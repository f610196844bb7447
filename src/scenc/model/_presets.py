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
    """

    model: dict[str, Any]
    train: dict[str, Any]
    objective: str = "masked"


# What each objective changes of a preset.
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
}

PRESETS = {
    # A laptop's CPU: minutes for thousands of cells. Dropout costs a sixth of a step there.
    "small": Preset(
        model={"d_model": 64, "n_layers": 2, "n_heads": 2, "d_feedforward": 128, "context": 256},
        train={"max_epochs": 10, "batch_size": 64, "lr": 1e-3},
        objective="contrastive",
    ),
    # One GPU: hours for hundreds of thousands of cells.
    "base": Preset(
        model={
            "d_model": 256,
            "n_layers": 6,
            "n_heads": 8,
            "d_feedforward": 1024,
            "dropout": 0.1,
            "context": 1024,
        },
        train={"max_epochs": 20, "batch_size": 256, "lr": 5e-4},
        objective="contrastive",
    ),
    # Table 1 of the paper: 10 million cells on many GPUs.
    "paper": Preset(
        model={
            "d_model": 512,
            "n_layers": 12,
            "n_heads": 8,
            "d_feedforward": 1024,
            "dropout": 0.1,
            "context": 1024,
            "seed": 777,
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
    ),
}


# Where an objective wants other sizes than the preset's.
_BOTH = {
    # Each cell is seen twice a step; its views are short, its embedding takes all it has.
    ("small", "contrastive"): Preset(model={"n_layers": 1, "context": None}, train={}),
    ("base", "contrastive"): Preset(
        model={"context": None},
        train={"batch_size": 256, "lr": 5e-4, "cell_visits": 1_000_000, "view_genes": 512},
    ),
}


def get_preset(name: str, objective: str | None = None) -> Preset:
    """Return a preset by its name, as an objective changes it; ``None``: the preset's own."""
    preset = PRESETS[choose(name, PRESETS, "preset")]
    chosen = choose(objective or preset.objective, OBJECTIVES, "objective")
    layers = [preset, OBJECTIVES[chosen], *filter(None, [_BOTH.get((name, chosen))])]
    return Preset(
        model={key: value for layer in layers for key, value in layer.model.items()},
        train={key: value for layer in layers for key, value in layer.train.items()},
        objective=chosen,
    )
