"""Arguments that could have no effect beside the others: refused, never ignored."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from scenc._arguments import OF_EXPRESSION_ENCODERS, OF_GENE_ENCODERS, applicable
from scenc.nn import ModelConfig
from scenc.train import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

# Settings of views, and of counts that are decoded from them; of a network that decodes counts.
_VIEWS = ("masked_weight", "contrast_weight", "anchor_weight", "temperature", "negatives",
          "view_genes", "view_depth", "n_neighbors", "same_cell")  # fmt: skip
_COUNTS = ("counts_weight", "partner_share", "kl_weight", "decoder_steps")
_DECODER = ("likelihood", "decoder_hidden")


def refuse_unused_settings(config: ModelConfig, defaults: Mapping[str, Any]) -> None:
    """Refuse settings of encoders, or of a decoder of counts, that the network does not have.

    Parameters
    ----------
    config
        The network's settings.
    defaults
        What the preset says of some of them.

    Raises
    ------
    ValueError
        Naming the argument, and the encoder or objective that it is of.

    Examples
    --------
    >>> config = scenc.nn.ModelConfig(expression_encoder="raw", n_bins=10)
    >>> try:
    ...     scenc.model.refuse_unused_settings(config, defaults={})
    ... except ValueError as error:
    ...     print(error)
    n_bins=10 cannot apply: it is of expression_encoder='hard' or 'soft', and this is 'raw'.
    """
    changed = _changed(asdict(config), {**asdict(ModelConfig()), **defaults})
    used = applicable(changed, config.gene_encoder, config.expression_encoder)
    for name in changed:
        if name in _DECODER and config.objective != "generative":
            raise ValueError(
                f"{name}={changed[name]!r} cannot apply: it is of objective='generative', and the "
                f"model's is {config.objective!r}."
            )
        if name not in used:
            encoder = "gene_encoder" if name in OF_GENE_ENCODERS else "expression_encoder"
            of = {**OF_GENE_ENCODERS, **OF_EXPRESSION_ENCODERS}[name]
            raise ValueError(
                f"{name}={changed[name]!r} cannot apply: it is of {encoder}="
                f"{' or '.join(map(repr, of))}, and this is {getattr(config, encoder)!r}."
            )


def refuse_unused_training(
    config: TrainConfig,
    defaults: Mapping[str, Any],
    *,
    objective: str,
    early_stopping: bool,
    has_files: bool = False,
    num_workers: int = 0,
    checkpoints: Mapping[str, Any] | None = None,
) -> None:
    """Refuse settings of a training that nothing would use.

    Parameters
    ----------
    config
        The settings.
    defaults
        What the preset says of some of them.
    objective
        The training objective.
    early_stopping, num_workers
        As in `scenc.Model.train`.
    has_files
        Whether a datamodule gives the cells.
    checkpoints
        Arguments about checkpoints that are not the default, where no folder is named for them.

    Raises
    ------
    ValueError
        Naming the argument, and why it cannot apply.

    Examples
    --------
    >>> config = scenc.train.TrainConfig(n_neighbors=50)
    >>> try:
    ...     scenc.model.refuse_unused_training(config, {}, objective="masked", early_stopping=True)
    ... except ValueError as error:
    ...     print(error)
    n_neighbors=50 cannot apply: it is of objective='generative' or 'contrastive', ...
    """
    changed = _changed(asdict(config), {**asdict(TrainConfig()), **defaults})
    reasons: dict[str, str] = {}
    if objective == "masked":
        why = "it is of objective='generative' or 'contrastive', and the model's is 'masked'"
        reasons |= dict.fromkeys(_VIEWS, why)
    if objective != "generative":
        why = f"it is of objective='generative', and the model's is {objective!r}"
        reasons |= dict.fromkeys(_COUNTS, why)
    elif config.counts_weight == 0:
        reasons["decoder_steps"] = "counts_weight=0 leaves the decoder out"
    if objective != "masked" and config.masked_weight == 0:
        reasons["mask_fraction"] = "masked_weight=0 leaves masked expression out"
    if has_files:
        why = "the datamodule has a split of its own; make it with another"
        reasons |= dict.fromkeys(("validation_size", "test_size"), why)
    elif config.validation_size == 0:
        reasons["validate_every"] = "validation_size=0 leaves no cell to validate on"
    if config.max_epochs is not None:
        reasons["cell_visits"] = "max_epochs says how long to train"
    if not early_stopping:
        reasons["patience"] = "early_stopping=False never stops early"
    if has_files and num_workers and (objective == "masked" or not config.wants_neighbors):
        changed["num_workers"] = num_workers
        reasons["num_workers"] = "cells are streamed; give the datamodule num_workers"
    changed |= checkpoints or {}
    reasons |= dict.fromkeys(checkpoints or (), "it needs the checkpoint_dir of the training")
    for name, value in changed.items():
        if name in reasons:
            raise ValueError(f"{name}={value!r} cannot apply: {reasons[name]}.")


def _changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != defaults[name]}
