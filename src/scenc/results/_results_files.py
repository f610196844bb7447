"""The files of results: tables, and the description of the run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from scenc.io import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

_RUN = "run.json"


def read_table(folder: Path, name: str) -> pd.DataFrame | None:
    """Read a table from its Parquet or CSV file; ``None`` if there is neither.

    Raises
    ------
    ValueError
        The file is damaged.
    """
    parquet, csv = folder / f"{name}.parquet", folder / f"{name}.csv"
    try:
        if parquet.is_file():
            return pd.read_parquet(parquet)
        # A display name such as "None" or "NA" is a name.
        if csv.is_file():
            return pd.read_csv(csv, keep_default_na=False, na_values=[""])
    except Exception as error:
        raise ValueError(f"{parquet if parquet.is_file() else csv} is damaged: {error}") from error
    return None


def read_run(folder: Path) -> dict[str, Any]:
    """Read the description of the run; empty if there is no such file.

    Raises
    ------
    ValueError
        The file is damaged.
    """
    path = folder / _RUN
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(run, dict):
        raise ValueError(f"{path} does not describe a run.")
    return run


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as Parquet or CSV, by the ending of the path, whole or not at all."""
    with atomic_path(path) as draft:
        if path.suffix == ".parquet":
            table.to_parquet(draft, index=False)
        else:
            table.to_csv(draft, index=False)
    return path


def write_run(run: dict[str, Any], folder: Path) -> Path:
    """Write the description of the run, whole or not at all."""
    path = folder / _RUN
    with atomic_path(path) as draft:
        draft.write_text(json.dumps(run, indent=1, allow_nan=False), "utf-8")
    return path
