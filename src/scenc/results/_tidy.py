"""The columns of the tidy tables, and the check that brings any table into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping

# Column: (kind of its values, default where a column or a value is missing). A column without a
# default must be there.
SCORES: dict[str, tuple[Any, ...]] = {
    "encoding": ("text",),
    "kind": ("text", "encoding"),
    "gene_encoder": ("name", None),
    "expression_encoder": ("name", None),
    "dataset": ("text",),
    "metric": ("text",),
    "seed": ("int", 0),
    "budget": ("maybe int", None),
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
    "job": ("text", ""),
    "task": ("text", ""),
    "encoding": ("text",),
    "dataset": ("name", None),
    "seed": ("int", 0),
    "budget": ("maybe int", None),
    "status": ("text",),
    "reason": ("text", ""),
    "diverged_step": ("maybe int", None),
    "n_steps": ("maybe int", None),
    "seconds": ("float", np.nan),
    "peak_memory_mb": ("float", np.nan),
}
CHECKS: dict[str, tuple[Any, ...]] = {
    "encoding": ("text",),
    "shuffled": ("text",),
    "dataset": ("text",),
    "metric": ("text",),
    "seed": ("int", 0),
    "budget": ("maybe int", None),
    "value": ("float",),
    "intact": ("float", np.nan),
}
INTERVALS: dict[str, tuple[Any, ...]] = {
    "comparison": ("text",),
    "within": ("text",),
    "metric": ("text",),
    "relative": ("float",),
    "relative_low": ("float",),
    "relative_high": ("float",),
}


def tidy(
    table: pd.DataFrame | None, columns: Mapping[str, tuple[Any, ...]], what: str
) -> pd.DataFrame:
    """Return a copy with exactly these columns, in order, each with values of its kind.

    Numbers that are not finite become NaN, which stands for "undefined".

    Parameters
    ----------
    table
        The table; None: an empty one.
    columns
        `SCORES`, `CURVES`, `JOBS`, `CHECKS` or `INTERVALS`.
    what
        Name of the table in messages.

    Raises
    ------
    TypeError
        It is no DataFrame.
    ValueError
        A column without default is missing, or a column holds something else than numbers.
    """
    if table is None:
        table = pd.DataFrame(columns=list(columns), dtype=object)
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"{what} must be a DataFrame, got {type(table).__name__}.")
    missing = [name for name, kind in columns.items() if len(kind) == 1 and name not in table]
    if missing:
        raise ValueError(
            f"{what} lack the column{'s' if len(missing) > 1 else ''} "
            f"{', '.join(map(repr, missing))}; there are {', '.join(map(repr, table.columns))}."
        )
    checked = {}
    for name, (kind, *default) in columns.items():
        column = table.get(name, pd.Series(default * len(table), dtype=object))
        try:
            checked[name] = _values(column.reset_index(drop=True), kind, *default)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{what}: the column {name!r} must hold numbers ({error}).") from None
    return pd.DataFrame(checked)


def _values(column: pd.Series[Any], kind: str, default: Any = None) -> Any:
    if kind == "text":
        return column.astype(object).where(column.notna(), default or "").astype(str)
    if kind == "name":
        return pd.Series([str(v) if pd.notna(v) else None for v in column], dtype=object)
    numbers = pd.to_numeric(column)
    if kind == "maybe int":
        return numbers.astype("Int64")
    if kind == "int":
        return (numbers if default is None else numbers.fillna(default)).astype("int64")
    numbers = numbers.astype("float64")
    return numbers.where(np.isfinite(numbers))
