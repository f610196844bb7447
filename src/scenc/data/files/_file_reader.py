from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scenc.data.files._file_rows import GAP
from scenc.data.loading import CellReader
from scenc.data.tokens import NO_ROWS, Joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scenc.data.files._file_rows import FileRows
    from scenc.data.tokens import GeneRows


class FileReader(CellReader):
    """Read cells of files with different genes.

    Parameters
    ----------
    files
        The files' counts.
    gene_maps
        Per file, the vocabulary index of each of its genes, `UNKNOWN` or `COUNTED`.
    """

    def __init__(self, files: Sequence[FileRows], gene_maps: Sequence[NDArray[np.int64]]) -> None:
        super().__init__(np.array([file.shape[0] for file in files]))
        self._files = files
        self._gene_maps = [gene_map.astype(np.int32) for gene_map in gene_maps]

    def gather(self, cells: NDArray[np.int64]) -> GeneRows:
        """Read runs of neighbouring cells, and join what of them is in the vocabulary."""
        if not len(cells):
            return NO_ROWS
        files, rows = self.locate(cells)
        cuts = np.flatnonzero(_breaks(files, rows)) + 1
        lows, highs = np.append(0, cuts), np.append(cuts, len(cells))
        room = self._room(files[lows], rows[lows], rows[highs - 1] + 1)
        joined = Joined(len(cells), room)
        for low, high in zip(lows.tolist(), highs.tolist(), strict=True):
            file, first = int(files[low]), int(rows[low])
            span = self._files[file].span(first, int(rows[high - 1]) + 1)
            if not joined.add(*span, rows[low:high] - first, self._gene_maps[file]):
                raise ValueError(f"{self._files[file].path} is damaged: it has genes out of range.")
        return joined.rows()

    def _room(
        self, files: NDArray[np.int64], starts: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> int:
        """Return how many values are stored in runs of rows, as far as can be told beforehand."""
        return sum(
            self._files[file].n_stored_of(starts[files == file], stops[files == file])
            for file in np.unique(files).tolist()
        )


def _breaks(files: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say after which cells the file changes, or the next row is not a little further on."""
    steps = np.diff(rows)
    breaks: NDArray[np.bool_] = (np.diff(files) != 0) | (steps <= 0) | (steps > GAP)
    return breaks
