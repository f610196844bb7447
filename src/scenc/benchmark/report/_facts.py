"""Tables and lists of the page about the run: counts, data sets, settings, versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scenc.benchmark.report._page_table import Cell, Table, number, text

if TYPE_CHECKING:
    from scenc.results import Results

_TOLD = ("title", "versions", "settings", "evaluation_sets")
_NAMES = {
    "training_data": "training data",
    "gene_vectors": "pretrained gene vectors",
    "threads_per_job": "threads per job",
    "budgets": "budgets, visits of cells",
    "negative_controls": "negative controls",
    "n_cells": "cells",
    "n_genes": "genes",
    "n_batches": "batches",
    "n_labels": "cell types",
    "memory_gb": "memory, GB",
    "gpus": "GPUs",
    "batch_key": "batches from",
    "label_key": "cell types from",
    "min_cells": "cells a type needs",
    "genes_matched": "genes the models know",
}


def headline(results: Results) -> list[tuple[str, str]]:
    """Return the counts at the head of the page, as number and word: encodings, jobs by status."""
    kinds = results.encodings["kind"].value_counts()
    counts = [(str(count), f"{kind}{'' if count == 1 else 's'}") for kind, count in kinds.items()]
    for column, word in (("dataset", "data set"), ("seed", "seed")):
        count = results.scores[column].nunique()
        counts.append((str(count), f"{word}{'' if count == 1 else 's'}"))
    states = results.jobs["status"].value_counts()
    return [*counts, *((f"{count:,}", f"jobs {state}") for state, count in states.items())]


def facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the description of a run as name and words, less the parts that have a table."""
    return [(name_of(key), words(value)) for key, value in run.items() if key not in _TOLD]


def versions(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the packages that results depend on: name, version."""
    given = run.get("versions")
    return [(str(k), words(v)) for k, v in given.items()] if isinstance(given, Mapping) else []


def set_table(run: Mapping[str, Any]) -> Table:
    """Return the evaluation sets."""
    sets = run.get("evaluation_sets")
    sets = (
        {k: v for k, v in sets.items() if isinstance(v, Mapping)}
        if isinstance(sets, Mapping)
        else {}
    )
    keys = list(dict.fromkeys(key for of in sets.values() for key in of))
    rows = [[text(name), *(_cell(of.get(key)) for key in keys)] for name, of in sets.items()]
    return Table("Evaluation sets", ["data set", *map(name_of, keys)], rows)


def setting_tables(run: Mapping[str, Any]) -> list[Table]:
    """Return a table of the settings that all encodings share, and one of those that differ."""
    settings = run.get("settings")
    if not isinstance(settings, Mapping):
        return []
    shared, each = settings.get("shared"), settings.get("each")
    tables = []
    if isinstance(shared, Mapping) and shared:
        rows = [[text(key), text(words(value), "wrap")] for key, value in shared.items()]
        tables.append(Table("Settings of all encodings", ["setting", "value"], rows))
    if isinstance(each, Mapping) and each:
        rows = [
            [text(name), text(key), text(words(value), "wrap")]
            for name, of in each.items()
            for key, value in (of.items() if isinstance(of, Mapping) else [("", of)])
        ]
        tables.append(Table("Settings of one encoding", ["encoding", "setting", "value"], rows))
    return tables


def name_of(key: Any) -> str:
    """Return the name of a key on the page."""
    return _NAMES.get(str(key), str(key).replace("_", " "))


def words(value: Any, depth: int = 6) -> str:
    """Return plain values as one line of text, nested ones down to a depth."""
    if depth == 0:
        return "…"
    if value is None or value == [] or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return "; ".join(
            f"{name_of(key)}: {'all' if key == 'metrics' and of is None else words(of, depth - 1)}"
            for key, of in value.items()
        )
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(words(of, depth - 1) for of in value)
    return str(value)


def _cell(value: Any) -> Cell:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return number(value, ",g") if plain else text("" if value is None else words(value))
