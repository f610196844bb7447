"""Encodings: settings of scenc models that are to be compared."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from scenc._arguments import applicable, choose, refuse_unknown
from scenc.results import EXPRESSION_ENCODERS, GENE_ENCODERS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


Kind = Literal["encoding", "control", "baseline"]

# Quantile bins within a cell and bins of raw counts hide the cell's library size, on which x~
# depends. Each control changes such an encoding so that it is shown: remark, model settings.
_CONTROLS: dict[str, tuple[str, dict[str, Any]]] = {
    "hard": ("global edges", {"hard_edges": "global"}),
    "log": ("of x~", {"log_input": "normalized"}),
}


@dataclass(frozen=True)
class Encoding:
    """A scenc model's settings, trained once for each seed.

    Attributes
    ----------
    gene_encoder, expression_encoder, preset
        As in `scenc.Model`.
    model
        Any other attributes of `scenc.nn.ModelConfig`; not ``seed``, which the benchmark sets.
    training
        Arguments of `scenc.Model.train`.
    objective
        As in `scenc.Model`, but by default the paper's, ``"masked"``, with every preset.
    name
        Name in tables and figures; ``None``: the gene encoder (or the label of its vectors)
        and the expression encoder.
    kind
        ``"encoding"``; ``"control"`` is left out of comparisons between encodings.
    remark
        Text in brackets after the name that is made where `name` is None.

    Examples
    --------
    >>> from scenc.benchmark import Encoding
    >>> Encoding("learned", "hard", model={"n_bins": 10}, name="learned + hard (10 bins)").name
    'learned + hard (10 bins)'
    """

    gene_encoder: str = "learned"
    expression_encoder: str = "soft"
    preset: str = "small"
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    objective: str = "masked"
    name: str | None = None
    kind: Kind = "encoding"
    remark: str = ""

    def __post_init__(self) -> None:
        choose(self.gene_encoder, GENE_ENCODERS, "gene_encoder")
        choose(self.expression_encoder, EXPRESSION_ENCODERS, "expression_encoder")
        choose(self.kind, ("encoding", "control"), "kind of an encoding")
        for name in ("gene_encoder", "expression_encoder", "preset", "objective"):
            if name in self.model:
                raise TypeError(f"{name} is an argument of the encoding itself, not one in model.")
        if "seed" in self.model:
            raise TypeError(
                "seed cannot be a model setting here: the benchmark trains once for each of seeds."
            )

    def title(self, gene_vectors: str | None = None) -> str:
        """Return the display name.

        Parameters
        ----------
        gene_vectors
            Name of the pretrained gene vectors, such as ``"ESM-2"``.
        """
        protein = gene_vectors or "protein"
        genes = protein if self.gene_encoder == "protein" else self.gene_encoder
        remark = f" ({self.remark})" if self.remark else ""
        return self.name or f"{genes} + {self.expression_encoder}{remark}"

    def settings(self, seed: int) -> dict[str, Any]:
        """Return all settings, defaults and presets filled in, as plain values.

        Raises
        ------
        TypeError, ValueError
            An argument is unknown or out of range; the message names it.
        """
        from scenc.model import (
            Model,
            get_preset,
            refuse_unused_settings,
            refuse_unused_training,
        )
        from scenc.nn import ModelConfig
        from scenc.train import TrainConfig

        preset = get_preset(self.preset, self.objective)
        fixed = {
            "gene_encoder": self.gene_encoder,
            "expression_encoder": self.expression_encoder,
            "seed": seed,
        }
        model = ModelConfig.from_dict({**preset.model, **self.model, **fixed})
        refuse_unused_settings(model, {**preset.model, "seed": seed})
        names = [field.name for field in fields(TrainConfig)]
        refuse_unknown(self.training, [*names, *_trainer_names(Model)], "training argument")
        known = {name: value for name, value in self.training.items() if name in names}
        config = TrainConfig.from_dict({**preset.train, **known})
        trainer = {name: value for name, value in self.training.items() if name not in names}
        refuse_unused_training(
            config,
            preset.train,
            objective=self.objective,
            early_stopping=trainer.get("early_stopping", True),
        )
        return {
            "model": model.to_dict(),
            "training": {**config.to_dict(), **trainer},
            "preset": self.preset,
        }


def grid(
    preset: str = "small",
    *,
    gene_encoders: Collection[str] = GENE_ENCODERS,
    expression_encoders: Collection[str] = EXPRESSION_ENCODERS,
    controls: bool | Collection[str] = False,
    depth_tokens: bool | Collection[str] = False,
    model: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    objective: str = "masked",
) -> list[Encoding]:
    """Return all pairs of gene and expression encoders, the same in everything else.

    Parameters
    ----------
    preset
        As in `scenc.Model`.
    gene_encoders, expression_encoders
        Which ones; by default the paper's two and four.
    controls
        Whether to add, to ``"hard"`` and ``"log"`` where these are asked for, hard bins with
        global edges of x~ and log bins of x~; or the gene encoders to add them to. The target x~
        depends on a cell's library size, which quantile bins within a cell and logs of raw counts
        hide, and raw and soft encodings show. The controls show it but still bin: they separate
        what binning loses in resolution from what it loses by hiding the library size.
    depth_tokens
        Whether to add each encoding, controls aside, once more with a token of the cell's depth
        (``depth_token`` of `scenc.nn.ModelConfig`), or the gene encoders to add these for: they
        show the library size whatever the expression encoder hides. A cell keeps as many genes as
        without, and has one token more.
    model, training, objective
        Settings that all share; see `Encoding`. Those of one encoder, such as ``n_bins``, go to the
        encodings that have it.

    Raises
    ------
    ValueError
        An encoder is unknown.

    Examples
    --------
    >>> from scenc.benchmark import grid
    >>> [encoding.title() for encoding in grid(gene_encoders=["learned"], controls=True)]
    ['learned + raw', 'learned + hard', 'learned + log', 'learned + soft', \
'learned + hard (global edges)', 'learned + log (of x~)']
    >>> grid(expression_encoders=["log"], depth_tokens=["learned"])[-1].title()
    'learned + log (with depth token)'
    """
    encodings = [
        Encoding(
            genes,
            expression,
            preset,
            applicable(model or {}, genes, expression),
            dict(training or {}),
            objective,
        )
        for genes in gene_encoders
        for expression in expression_encoders
    ]
    controlled = [
        _control(encoding)
        for encoding in _of_genes(encodings, controls, "controls")
        if encoding.expression_encoder in _CONTROLS
    ]
    deep = [
        _with_depth(encoding) for encoding in _of_genes(encodings, depth_tokens, "depth_tokens")
    ]
    return [*encodings, *controlled, *deep]


def _of_genes(
    encodings: list[Encoding], wanted: bool | Collection[str], what: str
) -> list[Encoding]:
    """Return the encodings of the gene encoders that are asked for, all of them if True."""
    if isinstance(wanted, bool):
        return encodings if wanted else []
    there = list(dict.fromkeys(encoding.gene_encoder for encoding in encodings))
    for genes in wanted:
        choose(genes, there, f"{what}: a gene encoder of the grid")
    return [encoding for encoding in encodings if encoding.gene_encoder in wanted]


def _control(encoding: Encoding) -> Encoding:
    """Return the encoding changed so that it shows the library size."""
    remark, change = _CONTROLS[encoding.expression_encoder]
    return replace(encoding, model={**encoding.model, **change}, kind="control", remark=remark)


def _with_depth(encoding: Encoding) -> Encoding:
    """Return the encoding with a token of the cell's depth."""
    model = {**encoding.model, "depth_token": True}
    return replace(encoding, model=model, kind="control", remark="with depth token")


def _trainer_names(model: type[Any]) -> list[str]:
    """Return the arguments of `Model.train`, beside a `TrainConfig`, that an encoding may set."""
    parameters = inspect.signature(model.train).parameters
    ours = {"self", "overrides", "enable_progress_bar", "callbacks", "datamodule"}
    return [name for name in parameters if name not in ours]
