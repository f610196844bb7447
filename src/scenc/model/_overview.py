"""What a model is and whether it is trained, at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from scvi.model.base import BaseModelClass

from scenc._printing import PrintedTable, list_some

if TYPE_CHECKING:
    import pandas as pd

    from scenc.model._persistence import ModelState
    from scenc.nn import CellTransformer


class DataFacts(NamedTuple):
    """Numbers of the data that a model was made with, as far as its registry tells.

    Attributes
    ----------
    n_cells, n_batches, n_labels
        Numbers; ``None``: not known. Without a column there is one batch, and there are no labels.
    batch_key, labels_key
        The columns of obs; ``None``: none.
    """

    n_cells: int | None
    n_batches: int | None
    n_labels: int | None
    batch_key: str | None
    labels_key: str | None


def data_facts(registry: dict[str, Any]) -> DataFacts:
    """Read from a registry of scvi-tools which data a model was made with."""
    fields, arguments = registry["field_registries"], registry["setup_args"]

    def number(field: str, name: str) -> int | None:
        value = fields.get(field, {}).get("summary_stats", {}).get(name)
        return None if value is None else int(value)

    batch_key, labels_key = arguments.get("batch_key"), arguments.get("labels_key")
    return DataFacts(
        number("X", "n_cells"),
        number("batch", "n_batch"),
        number("labels", "n_labels") if labels_key is not None else 0,
        batch_key,
        labels_key,
    )


def best_validation(history: dict[str, pd.DataFrame] | None) -> tuple[str, float, int] | None:
    """Return the name, value and step of the best validation; None if there was none."""
    for name in ("validation_loss", "reconstruction_loss_validation"):
        if history and name in history:
            curve = history[name].iloc[:, 0].dropna()
            if len(curve):
                place = int(curve.to_numpy().argmin())
                return name, float(curve.iloc[place]), int(curve.index[place])
    return None


def count_weights(network: CellTransformer) -> int:
    """Return the number of weights that training changes."""
    return sum(weights.numel() for weights in network.parameters())


def overview(state: ModelState, network: CellTransformer) -> PrintedTable:
    """Return a model's kind, state, network, genes and data as a table."""
    config, facts = state.config, data_facts(state.registry)
    trained = "not trained"
    if state.is_trained:
        trained = f"trained ({_number(state.n_epochs, 'epoch')}, {_number(state.n_steps, 'step')})"
    title = (
        f"scenc.Model, {trained}: {config.gene_encoder} genes, {config.expression_encoder} "
        f"expression, {config.objective} objective"
    )
    genes = f"{len(state.vocabulary):,} ({list_some(state.vocabulary.tolist())})"
    if len(state.counted):
        genes += f"; {len(state.counted):,} more count for the library size"
    data = "unknown" if facts.n_cells is None else _number(facts.n_cells, "cell")
    if facts.batch_key is not None:
        data += f", {facts.n_batches} batches ({facts.batch_key})"
    if facts.labels_key is not None:
        data += f", {facts.n_labels} labels ({facts.labels_key})"
    rows = [
        (
            "network",
            f"preset {state.preset}: {config.d_model} wide, {_number(config.n_layers, 'layer')}, "
            f"{_number(config.n_heads, 'head')}; {count_weights(network):,} weights on "
            f"{network.device}; seed {config.seed}",
        ),
        ("genes", genes),
        ("made with", data),
    ]
    best = best_validation(state.history)
    if best is not None:
        name, value, step = best
        rows.append(("best", f"{name} {value:.4g}, at step {step:,}"))
    return PrintedTable(title, rows, "<<", indent="  ")


class OverviewMixin(BaseModelClass):
    """How a model prints."""

    module: CellTransformer

    def __repr__(self) -> str:
        if getattr(self, "module", None) is None:  # an error on the way to a model
            return object.__repr__(self)
        return overview(self._state(), self.module).text()

    def _repr_html_(self) -> str:
        return overview(self._state(), self.module).html()


def _number(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
