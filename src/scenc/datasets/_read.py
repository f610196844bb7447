"""Look into downloaded files, and read their counts as an AnnData."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scenc.io import count_rows, find_counts, opened, read_column

if TYPE_CHECKING:
    import os

    from anndata import AnnData


@dataclass(frozen=True, slots=True)
class Content:
    """Content of a file of cells.

    Attributes
    ----------
    n_cells
        Number of cells or spots.
    counts
        Where the counts are, ``"raw/X"`` or ``"X"``; ``None``: there are none.
    n_off_tissue
        Number of spots outside of the tissue.
    note
        Why there are no counts, and other things to know.
    """

    n_cells: int
    counts: str | None
    n_off_tissue: int
    note: str


def inspect(path: str | os.PathLike[str]) -> Content:
    """Look where a file keeps its counts, and how many of its spots lie outside of the tissue.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file, or it cannot be read.
    """
    with opened(path) as group:
        obs, notes, counts = group["obs"], [], None
        n_cells = count_rows(obs)
        try:
            counts = find_counts(group, "the file").key
        except ValueError as error:
            notes.append(str(error))
        n_off = 0
        if "in_tissue" in obs:
            in_tissue = read_column(obs, "in_tissue", "obs").to_numpy()
            n_off = int((in_tissue.astype(int) == 0).sum())
            if n_off:
                notes.append(f"{n_off:,} of {n_cells:,} spots lie outside of the tissue")
    return Content(n_cells, counts, n_off, "; ".join(notes))


def read_counts(path: str | os.PathLike[str], layer: str | None = None) -> AnnData:
    """Read the raw counts of a file, with cells and genes, and nothing else of it.

    Files of CELLxGENE and Tabula Sapiens hold normalised and further matrices beside the counts;
    these are left on disk.

    Parameters
    ----------
    path
        An .h5ad file or a zarr store.
    layer
        ``"X"``, ``"raw"`` or the name of a layer; ``None``: raw if it holds counts, else X if that
        does.

    Returns
    -------
    AnnData with counts in X, and the file's obs and its genes' var.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    KeyError
        It has no such layer.
    ValueError
        It cannot be read, or holds no counts.

    Examples
    --------
    >>> adata = scenc.datasets.read_counts("atlas.h5ad")
    >>> scenc.Model.setup_anndata(adata)
    """
    from anndata import AnnData
    from anndata.io import read_elem

    with opened(path) as group:
        matrix = find_counts(group, str(path), layer)
        parts: dict[str, Any] = {
            "X": read_elem(group[matrix.key]),
            "obs": read_elem(group["obs"]),
            "var": read_elem(group[matrix.var]),
        }
    if matrix.kind == "csc":
        parts["X"] = parts["X"].tocsr()
    return AnnData(**parts)
