"""The checks of counts and gene names, before any work is spent on them."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scenc.io import flag_fractions, flag_unusable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from scenc.data.counts._rows import CountRows, Csr
    from scenc.genes import GeneMatch

# log1p of counts scaled to 10^6 a cell stays below this; raw counts of a data set do not.
_LOG_CEILING = 20.0
# Totals of cells that differ by less than this share of their mean (standard deviation) have been
# made equal, if there are so many cells; those of counts differ by half of it and more.
_EQUAL_TOTALS, _LEAST_CELLS = 0.005, 10
# Below this share of the shorter of two lists of genes, these are taken to be named differently.
LEAST_SHARED = 0.1


@dataclass(frozen=True, slots=True)
class Problems:
    """Problems of data: all of them are collected before they are raised or listed.

    Attributes
    ----------
    errors
        Reasons why the data cannot be used.
    remarks
        What to warn of.
    """

    errors: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def report(self) -> None:
        """Raise the errors as one `ValueError`, or else warn of the remarks."""
        if self.errors:
            raise ValueError(" ".join(self.errors))
        for remark in self.remarks:
            warnings.warn(remark, UserWarning, stacklevel=3)

    @contextmanager
    def collected(self, path: str = "") -> Iterator[None]:
        """Collect an exception that a block raises, without the name of the file it begins with."""
        try:
            yield
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            # A damaged file makes the readers raise any of these. (str of a KeyError is quoted.)
            text = error.args[0] if isinstance(error, KeyError) and error.args else error
            self.errors.append(str(text).removeprefix(f"{path}: ").removeprefix(f"{path} "))


@dataclass(frozen=True, slots=True)
class CountCheck:
    """Summary of all values of a count matrix.

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
    totals
        Sum of the values of each cell, shape ``(n_cells,)``.

    Examples
    --------
    >>> rows = scenc.data.open_rows(adata.X)
    >>> found = scenc.data.check_counts(rows, adata.obs_names, adata.var_names, "adata.X")
    >>> found.n_fractional, found.maximum, found.looks_log_normalized
    (0, 259.0, False)
    """

    n_genes: NDArray[np.int64]
    n_fractional: int
    n_values: int
    maximum: float
    first_fractional: tuple[str, str, float] | None
    totals: NDArray[np.float64]

    @property
    def looks_log_normalized(self) -> bool:
        """Mostly fractions, and none larger than a logarithm gets."""
        return self.n_fractional > 0.5 * self.n_values and self.maximum <= _LOG_CEILING

    @property
    def looks_scaled(self) -> bool:
        """The cells' totals are next to equal: scaled to one depth (CPM, TPM), rounded perhaps.

        Counts drawn down to one depth have equal totals, too, but these are equal to the unit.
        """
        totals = self.totals[self.totals > 0]
        if len(totals) < _LEAST_CELLS or (not self.n_fractional and np.ptp(totals) == 0):
            return False
        return bool(totals.std() < _EQUAL_TOTALS * totals.mean())


def check_counts(
    rows: CountRows, cell_names: pd.Index[Any], gene_names: pd.Index[Any], where: str
) -> CountCheck:
    """Check every value of a count matrix.

    Parameters
    ----------
    rows
        The counts.
    cell_names, gene_names
        Names for error messages. Columns without a name are no genes and are left out.
    where
        Name of the matrix in error messages, e.g. ``adata.layers['counts']``.

    Returns
    -------
    A summary; whether fractions are acceptable is for the caller to say.

    Raises
    ------
    ValueError
        A value is NaN, infinite or negative; the message names its cell and gene.

    Examples
    --------
    >>> rows = scenc.data.open_rows(adata.X)
    >>> found = scenc.data.check_counts(rows, adata.obs_names, adata.var_names, "adata.X")
    >>> found.n_fractional
    0
    """
    named = np.asarray(gene_names != "")
    n_genes = np.zeros(rows.shape[0], np.int64)
    totals = np.zeros(rows.shape[0])
    n_fractional = n_values = 0
    maximum = 0.0
    first: tuple[str, str, float] | None = None
    for start, block in rows.chunks():
        values = block.data if named.all() else np.where(named[block.indices], block.data, 0)
        for what, flags in flag_unusable(values):
            if flags.any():
                cell, gene, value = _locate(flags, start, block, cell_names, gene_names)
                raise ValueError(
                    f"{where} holds a {what} value ({value}) at cell {cell!r}, gene {gene!r}. "
                    "scenc needs raw counts: non-negative numbers, zero where nothing was seen."
                )
        nonzero = values != 0
        before = np.concatenate([[0], np.cumsum(nonzero)])
        n_genes[start : start + block.shape[0]] = np.diff(before[block.indptr])
        sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
        totals[start : start + block.shape[0]] = np.diff(sums[block.indptr])
        n_values += int(before[-1])
        maximum = max(maximum, float(values.max(initial=0)))
        fractional = flag_fractions(values)
        n_fractional += int(fractional.sum())
        if first is None and fractional.any():
            first = _locate(fractional, start, block, cell_names, gene_names)
    return CountCheck(n_genes, n_fractional, n_values, maximum, first, totals)


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


def check_values(
    rows: CountRows,
    cell_names: pd.Index[Any],
    gene_names: pd.Index[Any],
    where: str,
    problems: Problems,
) -> CountCheck:
    """Check counts as `check_counts`; refuse log-normalised values and warn of other fractions."""
    check = check_counts(rows, cell_names, gene_names, where)
    if check.looks_scaled:
        problems.remarks.append(
            f"All cells of {where} have next to the same total ({check.totals.mean():,.6g}), as "
            "values scaled to one depth (CPM, TPM) have; scenc learns from raw counts: name the "
            "layer that holds them."
        )
    if check.first_fractional is None:
        return check
    cell, gene, value = check.first_fractional
    first = f"first: {value:.4g} at cell {cell!r}, gene {gene!r}"
    if check.looks_log_normalized:
        problems.errors.append(
            f"{where} looks log-normalised: {check.n_fractional} of {check.n_values} values are "
            f"fractions and none is above {check.maximum:.3g} ({first}). scenc needs raw counts: "
            "pass the layer that holds them (layer='counts'), use adata.raw.to_adata(), or try "
            "scenc.data.recover_counts."
        )
    else:
        problems.remarks.append(
            f"{where} holds {check.n_fractional} values that are not integers ({first}); scenc "
            "expects raw counts and takes these as they are."
        )
    return check


def check_names(
    values: pd.Series[Any],
    where: str,
    problems: Problems,
    is_gene: NDArray[np.bool_] | None = None,
) -> pd.Index[str]:
    """Return genes' names as text; every gene must have one, and no two the same.

    Parameters
    ----------
    values
        The names.
    where
        Name of the values in messages, such as ``"adata.var_names"``.
    problems
        Where problems are collected.
    is_gene
        Which features are genes; ``None``: all.

    Returns
    -------
    The names; ``""`` for genes without, and for what is no gene.
    """
    if is_gene is not None:
        all_names = np.full(len(values), "", dtype=object)
        all_names[is_gene] = check_names(values[is_gene], where, problems)
        every: pd.Index[str] = pd.Index(all_names).astype(str)
        return every
    empty = (values.isna() | (values.astype(str) == "")).to_numpy()
    if empty.any():
        problems.errors.append(
            f"{where} has {empty.sum()} empty entries, the first at position {empty.argmax()}. "
            "Every gene needs an identifier; drop those columns first."
        )
    names = pd.Index(values.astype(object).where(~empty, "").astype(str))
    repeated = names[names.duplicated() & ~empty].unique()
    if len(repeated):
        problems.errors.append(
            f"{where} names {len(repeated)} genes more than once, for example "
            f"{', '.join(repeated[:5])}. Merge or drop them, or call adata.var_names_make_unique()."
        )
    return names


def describe_low_coverage(match: GeneMatch) -> str | None:
    """Return why data share too few genes with a vocabulary to be used, or None if enough."""
    n_query, n_vocabulary = match.n_named, len(match.vocabulary)
    if match.n_matched / max(1, min(n_query, n_vocabulary)) >= LEAST_SHARED:
        return None
    text = f"only {match.n_matched} of its {n_query} genes are among the {n_vocabulary} of the "
    if not n_query or not n_vocabulary:
        return f"{text}vocabulary"
    first = match.query[match.query != ""][0]
    return (
        f"{text}vocabulary: it names genes like {first!r}, the vocabulary like "
        f"{match.vocabulary[0]!r}"
    )
