"""Columns of obs and var, read alike from an AnnData and from an open file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    # An h5py or zarr group: both are mappings with attributes.
    type Group = Any
    type Frame = pd.DataFrame | Group

# The version of stored data frames in which each column stands by itself.
_BY_COLUMN = "0.2.0"


def column_names(frame: Frame) -> list[str]:
    """Return the names of the columns; in a file also that of the index, if it has one."""
    return [name for name in map(str, frame) if not name.startswith("_")]


def count_rows(group: Group) -> int:
    """Return the number of rows of a stored frame, by the length of its index."""
    index = group[group.attrs["_index"]]
    # Names may be stored beside a mask of missing ones.
    return int((index if hasattr(index, "shape") else index["values"]).shape[0])


def read_column(frame: Frame, column: str | None, where: str) -> pd.Series[Any]:
    """Return a column of obs or var.

    Parameters
    ----------
    frame
        A data frame, or the group of an open file that holds one.
    column
        Name of the column; ``None``: the index.
    where
        Name of the frame in error messages, such as ``"adata.var"``.

    Returns
    -------
    The values, in the order of the rows and numbered from 0.

    Raises
    ------
    KeyError
        There is no such column; the message names those that are there.
    ValueError
        A file of anndata before 0.7 holds the frame as one array.
    """
    if not hasattr(frame, "keys"):
        raise ValueError(
            f"{where} is stored as one array, which cannot be read. "
            "Read the file with anndata and write it again."
        )
    if column is not None and column not in frame:
        there = ", ".join(column_names(frame)) or "none"
        raise KeyError(f"{where} has no column {column!r} (there: {there}).")
    if not isinstance(frame, pd.DataFrame):
        from anndata.io import read_elem

        if frame.attrs.get("encoding-version") == _BY_COLUMN:
            key = frame.attrs["_index"] if column is None else column
            return pd.Series(read_elem(frame[key]))
        # Before, names of categories stood outside of the column: anndata knows where.
        frame = read_elem(frame)
        if column == frame.index.name:
            column = None
    values = frame.index if column is None else frame[column]
    return pd.Series(values.array)


def read_groups(frame: Frame, column: str, where: str) -> pd.Categorical:
    """Return a column of obs as groups of cells, such as batches, which are known by name.

    There is one category for each of `group_names`, in sorted order; missing values have none.
    """
    values = pd.Categorical(read_column(frame, column, where))
    names, codes = np.unique(group_names(values.categories), return_inverse=True)
    positions: NDArray[np.int64] = np.append(codes, -1)[values.codes]
    return pd.Categorical.from_codes(positions, pd.Index(names, dtype=object))


def group_names(values: Iterable[object]) -> NDArray[np.object_]:
    """Return the names by which groups of cells are compared, across files and types: their text.

    A whole number is named without a decimal point, since a column of integers turns into one of
    floats where a value is missing. `values` are those that are not missing.
    """
    return np.array([_group_name(value) for value in values], dtype=object)


def _group_name(value: object) -> str:
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)  # type: ignore[call-overload]
