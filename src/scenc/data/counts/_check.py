"""A full check of counts before any work is spent on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from scenc.data.counts._rows import CountRows, Csr

# log1p of counts scaled to 10^6 a cell stays below this; raw counts of a data set do not.
_LOG_CEILING = 20.0


@dataclass(frozen=True, slots=True)
class CountCheck:
    """What a full pass over a count matrix found.

    Attributes
    ----------
    n_genes
        Number of non-zero genes of each cell, shape ``(n_cells,)``.
    n_fractional
        Number of stored values that are not integers.
    n_values
        Number of stored non-zero values.
    maximum
        Largest value.
    first_fractional
        Cell, gene and value of the first value that is not an integer.
    """

    n_genes: NDArray[np.int64]
    n_fractional: int
    n_values: int
    maximum: float
    first_fractional: tuple[str, str, float] | None

    @property
    def looks_log_normalized(self) -> bool:
        """Mostly fractions, and none larger than a logarithm gets."""
        return self.n_fractional > 0.5 * self.n_values and self.maximum <= _LOG_CEILING


def check_counts(
    rows: CountRows, cell_names: pd.Index[Any], gene_names: pd.Index[Any], where: str
) -> CountCheck:
    """Look at every value of a count matrix.

    Parameters
    ----------
    rows
        The counts.
    cell_names, gene_names
        Names for error messages.
    where
        What the matrix is called in error messages, e.g. ``adata.layers['counts']``.

    Returns
    -------
    What was found; whether fractions are acceptable is for the caller to say.

    Raises
    ------
    ValueError
        A value is NaN, infinite or negative; the message names its cell and gene.
    """
    n_genes = np.zeros(rows.shape[0], np.int64)
    n_fractional = n_values = 0
    maximum = 0.0
    first: tuple[str, str, float] | None = None
    for start, block in rows.chunks():
        values = block.data
        for bad, what in ((~np.isfinite(values), "NaN or infinite"), (values < 0, "negative")):
            if bad.any():
                cell, gene, value = _locate(bad, start, block, cell_names, gene_names)
                raise ValueError(
                    f"{where} holds a {what} value ({value}) at cell {cell!r}, gene {gene!r}. "
                    "scenc needs raw counts: non-negative numbers, zero where nothing was seen."
                )
        nonzero = values != 0
        before = np.concatenate([[0], np.cumsum(nonzero)])
        n_genes[start : start + block.shape[0]] = np.diff(before[block.indptr])
        n_values += int(before[-1])
        maximum = max(maximum, float(values.max(initial=0)))
        fractional = values != np.floor(values)
        n_fractional += int(fractional.sum())
        if first is None and fractional.any():
            first = _locate(fractional, start, block, cell_names, gene_names)
    return CountCheck(n_genes, n_fractional, n_values, maximum, first)


def _locate(
    flags: NDArray[np.bool_],
    start: int,
    block: Csr,
    cell_names: pd.Index[Any],
    gene_names: pd.Index[Any],
) -> tuple[str, str, float]:
    position = int(np.argmax(flags))
    row = int(np.searchsorted(block.indptr, position, side="right")) - 1
    column = int(block.indices[position])
    value = float(block.data[position])
    return str(cell_names[start + row]), str(gene_names[column]), value
