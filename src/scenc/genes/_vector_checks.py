from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scenc._printing import list_some
from scenc.genes._identifiers import as_names, strip_version

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scenc.genes._identifiers import Names
    from scenc.genes._readers import RawVectors


def check_vectors(
    raw: RawVectors, where: str, duplicates: str, nonfinite: str
) -> tuple[NDArray[Any], Names, Names | None, tuple[str, ...]]:
    """Check and clean names and vectors; return matrix, names, symbols and what to warn of."""
    for argument, value, known in (
        ("duplicates", duplicates, ("error", "first")),
        ("nonfinite", nonfinite, ("error", "drop")),
    ):
        if value not in known:
            raise ValueError(f'{argument}={value!r} is not one of "{known[0]}" and "{known[1]}".')
    matrix = _check_matrix(raw, where)
    symbols = None if raw.symbols is None else as_names(raw.symbols, "symbols")
    names = strip_version(raw.names)
    if symbols is not None:
        names = np.where(names == "", symbols, names)
    if not (names != "").all():
        raise ValueError(f"{where}: row {int(np.argmax(names == '')):,} has no gene name.")
    if not any(name != name.lower() for name in names.tolist()):
        names = np.array([name.upper() for name in names.tolist()], dtype=object)

    keep, notes = _finite(matrix, names, where, nonfinite)
    empty = keep & ~matrix.any(axis=1)
    if empty.any():
        lost = names[empty]
        notes = (*notes, f"{len(lost):,} vectors are all zero: left out: {list_some(lost)}")
        keep &= ~empty
    if not keep.any():
        raise ValueError(f"{where}: no gene has a vector that is finite and not all zero.")
    keep, more = _unique(matrix, names, keep, where, duplicates)
    if keep.all():
        return np.ascontiguousarray(matrix), names, symbols, (*notes, *more)
    symbols = None if symbols is None else symbols[keep]
    return np.ascontiguousarray(matrix[keep]), names[keep], symbols, (*notes, *more)


def _check_matrix(raw: RawVectors, where: str) -> NDArray[Any]:
    matrix = raw.matrix
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"{where}: expected genes x dimensions, but the shape is {matrix.shape}.")
    if matrix.dtype.kind not in "fiu":
        raise ValueError(f"{where}: vectors must be real numbers, but are {matrix.dtype}.")
    for what, names in (("names", raw.names), ("symbols", raw.symbols)):
        if names is not None and len(names) != len(matrix):
            raise ValueError(f"{where}: {len(names):,} {what} for {len(matrix):,} vectors.")
    dtype = matrix.dtype.newbyteorder("=")
    with np.errstate(over="ignore"):
        return matrix.astype(dtype if dtype in (np.float16, np.float32) else np.float32, copy=False)


def _finite(
    matrix: NDArray[Any], names: Names, where: str, nonfinite: str
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    keep = np.isfinite(matrix).all(axis=1)
    bad = names[~keep]
    if not len(bad):
        return keep, ()
    what = f"{len(bad):,} genes have a vector with NaN or infinity: {list_some(bad)}"
    if nonfinite == "error":
        raise ValueError(
            f'{where}: {what}. Leave them out with nonfinite="drop", or compute them anew '
            "(float16 overflows beyond 65,504: use float32)."
        )
    return keep, (f"{what}: left out",)


def _unique(
    matrix: NDArray[Any], names: Names, keep: NDArray[np.bool_], where: str, duplicates: str
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Keep the first of several names that are equal but for version or capitals."""
    rows = np.flatnonzero(keep)
    upper = pd.Series([names[row].upper() for row in rows], dtype=object)
    first = upper.groupby(upper, sort=False).transform(lambda group: group.index[0]).to_numpy()
    again = upper.duplicated().to_numpy()
    if not again.any():
        return keep, ()
    first_row, row = rows[first[again].astype(np.int64)], rows[again]
    differ = (matrix[first_row] != matrix[row]).any(axis=1)
    repeated = list(dict.fromkeys(names[first_row].tolist()))
    if differ.any() and duplicates == "error":
        gene = names[first_row[differ][0]]
        raise ValueError(
            f"{where}: {gene} has several different vectors (versions and capitals do not count), "
            f"and {len(set(first_row[differ].tolist())) - 1:,} other genes too. Remove all but "
            'one, or keep the first with duplicates="first".'
        )
    keep = keep.copy()
    keep[row] = False
    kind = "different" if differ.any() else "the same"
    listed = list_some(repeated)
    return keep, (
        f"{len(repeated):,} genes are repeated with {kind} vectors, first kept: {listed}",
    )
