"""The tidy tables' columns, and how what comes from files or users is brought into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping

# Column: (kind of values, what stands where a table has no such column; absent: it is needed).
SCORES: dict[str, tuple[Any, ...]] = {
    "encoding": ("text",),
    "kind": ("text", "encoding"),
    "gene_encoder": ("name", None),
    "expression_encoder": ("name", None),
    "dataset": ("text",),
    "metric": ("text",),
    "seed": ("int", 0),
    "value": ("float",),
    "reason": ("text", ""),
}
CURVES: dict[str, tuple[Any, ...]] = {
    "encoding": ("text",),
    "seed": ("int", 0),
    "metric": ("text",),
    "epoch": ("float", np.nan),
    "step": ("int",),
    "value": ("float",),
}
JOBS: dict[str, tuple[Any, ...]] = {
    "job": ("text",),
    "task": ("text",),
    "encoding": ("text",),
    "dataset": ("name", None),
    "seed": ("int", 0),
    "status": ("text",),
    "reason": ("text", ""),
    "diverged_step": ("maybe int", None),
    "seconds": ("float", np.nan),
    "peak_memory_mb": ("float", np.nan),
}


def tidy(
    table: pd.DataFrame | None, columns: Mapping[str, tuple[Any, ...]], what: str
) -> pd.DataFrame:
    """Return a copy with all columns, in order, each of its kind.

    Parameters
    ----------
    table
        The table; None: an empty one.
    columns
        One of the above.
    what
        What the table is called in messages.

    Raises
    ------
    TypeError
        It is no DataFrame.
    ValueError
        A column is missing that cannot be filled, or holds something else than it should.
    """
    if table is None:
        return pd.DataFrame({name: _as(pd.Series([], dtype=object), kind[0], name, what)
                             for name, kind in columns.items()})  # fmt: skip
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"{what} must be a DataFrame, got {type(table).__name__}.")
    missing = [name for name, kind in columns.items() if len(kind) == 1 and name not in table]
    if missing:
        raise ValueError(
            f"{what} lack the column{'s' if len(missing) > 1 else ''} "
            f"{', '.join(map(repr, missing))}; there are {', '.join(map(repr, table.columns))}."
        )
    found = {}
    for name, (kind, *default) in columns.items():
        column = table.get(name, pd.Series(default * len(table), dtype=object))
        found[name] = _as(column.reset_index(drop=True), kind, name, what)
    return pd.DataFrame(found)


def _as(column: pd.Series[Any], kind: str, name: str, what: str) -> Any:
    try:
        if kind == "text":
            return column.astype(object).where(column.notna(), "").astype(str)
        if kind == "name":
            return pd.Series([str(v) if pd.notna(v) else None for v in column], dtype=object)
        if kind == "maybe int":
            return pd.to_numeric(column).astype("Int64")
        return pd.to_numeric(column).astype("int64" if kind == "int" else "float64")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what}: the column {name!r} must hold numbers ({error}).") from None
