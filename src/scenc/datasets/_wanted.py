"""Data sets that a user asks for: by name, by id, or as rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from scenc._arguments import choose
from scenc.datasets._catalogue import is_id
from scenc.datasets._paper import pretraining, tissues

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Wanted:
    """One data set to download.

    Attributes
    ----------
    name
        Name in reports.
    asked
        The id (perhaps misprinted) or file name that it is asked for by.
    url
        Where it is; ``None``: the catalogue says.
    file
        Name of the file; ``None``: by its id.
    dataset_id
        Its id in the catalogue, if known.
    printed_id
        An id that may be misprinted.
    cells
        Number of cells to expect.
    kind
        Kind of data, as `pretraining` lists it.
    note
        Remark of `pretraining`.
    """

    name: str
    asked: str
    url: str | None = None
    file: str | None = None
    dataset_id: str | None = None
    printed_id: str | None = None
    cells: int | None = None
    kind: str = ""
    note: str = ""


def wanted(what: str | Iterable[str] | pd.DataFrame) -> list[Wanted]:
    """Read a request: names, ids, or rows of a table.

    Raises
    ------
    ValueError
        A name is unknown, or nothing is asked for.
    TypeError
        A table is neither of those of this package.
    """
    if isinstance(what, pd.DataFrame):
        items = _of_table(what)
    else:
        names = [what] if isinstance(what, str) else list(what)
        items = [item for name in names for item in _of_name(name)]
    if not items:
        raise ValueError("There is nothing to download: no data set is named.")
    unique = {(item.name, item.url): item for item in items}
    return list(unique.values())


def _of_name(name: str) -> list[Wanted]:
    if name == "pretraining":
        return _of_table(pretraining())
    if name == "tabula-sapiens":
        return _of_table(tissues())
    if is_id(name):
        return [Wanted(name.lower(), name.lower(), dataset_id=name.lower())]
    options = ["pretraining", "tabula-sapiens", *tissues().index]
    choose(name, options, "A data set (unless it is an id of CELLxGENE)")
    return _of_table(tissues().loc[[name]])


def _of_table(table: pd.DataFrame) -> list[Wanted]:
    flat = table.reset_index()
    rows: list[Any] = flat.to_dict("records")
    if {"row", "paper_id", "dataset_id"} <= set(flat.columns):
        return [_row_of_paper(row) for row in rows]
    if {"tissue", "url"} <= set(flat.columns):
        return [_tissue(row) for row in rows]
    raise TypeError(
        "A table to download must be (rows of) scenc.datasets.pretraining() or "
        f"scenc.datasets.tissues(); this one has the columns {', '.join(map(str, table.columns))}."
    )


def _row_of_paper(row: dict[str, Any]) -> Wanted:
    return Wanted(
        name=f"row {row['row']}",
        asked=str(row["paper_id"]),
        dataset_id=None if pd.isna(row["dataset_id"]) else str(row["dataset_id"]),
        printed_id=str(row["paper_id"]),
        cells=int(row["paper_cells"]),
        kind=str(row.get("kind", "")),
        note="" if pd.isna(row.get("note")) else str(row["note"]),
    )


def _tissue(row: dict[str, Any]) -> Wanted:
    all_donors = "_all_donors" if row["url"] == row.get("cellxgene_url") else ""
    name = str(row["tissue"])
    file = f"tabula_sapiens_{name.replace(' ', '_')}{all_donors}.h5ad"
    return Wanted(name, file, url=str(row["url"]), file=file)
