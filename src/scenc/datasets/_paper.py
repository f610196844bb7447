"""The data sets of the paper, as tables that ship with the package."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd


def pretraining() -> pd.DataFrame:
    """Return the 101 CELLxGENE data sets that the paper trains on, as far as they can be told.

    The paper prints ids and numbers of cells. Some ids are misprinted, so each was compared with
    public lists of data sets.

    Returns
    -------
    One row per data set, in the paper's order, with the index ``row`` from 1 and the columns

    paper_id, paper_cells
        As printed.
    dataset_id
        The id in CELLxGENE; missing where it is unresolved.
    status
        ``"confirmed"``: the printed id is right; ``"corrected"``: it is a near one;
        ``"unresolved"``: neither was found.
    edit_distance
        Number of letters by which `dataset_id` and `paper_id` differ (Levenshtein).
    kind
        ``"rna"``; ``"slide"``: a whole Visium slide of 4,992 spots, also those outside of the
        tissue; ``"methylation"``: DNA methylation, which is no count of RNA; ``"unclear"``.
    public_cells
        Number of cells in public lists.
    organism, title, tissue, assay, collection, version_seen
        As in public lists; missing where none says.
    note
        Remarks.

    Examples
    --------
    >>> table = scenc.datasets.pretraining()
    >>> table["status"].value_counts().to_dict()
    {'confirmed': 54, 'corrected': 27, 'unresolved': 20}
    """
    numbers = ("row", "paper_cells", "edit_distance", "public_cells")
    table = _read("pretraining.tsv", dict.fromkeys(numbers, "Int64"))
    return table.astype({"row": int, "paper_cells": int}).set_index("row")


def tissues() -> pd.DataFrame:
    """Return the 26 tissues of Tabula Sapiens v2 that the paper evaluates on.

    Returns
    -------
    One row per tissue, with the index ``tissue`` and the columns

    url
        The tissue's cells of the new donors, as the CZI benchmarks publish them.
    cellxgene_url
        The tissue in CELLxGENE, a fixed version: the cells of all donors, old and new.

    Examples
    --------
    >>> scenc.datasets.tissues().loc["bladder", "url"]
    """
    return _read("tabula_sapiens.tsv", {}).set_index("tissue")


def _read(name: str, types: dict[str, str]) -> pd.DataFrame:
    with (files(__package__) / "_tables" / name).open(encoding="utf-8") as file:
        return pd.read_csv(file, sep="\t", dtype={**types})
