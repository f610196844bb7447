"""A store of cells: shuffled once, sharded, and then read many times by annbatch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from tqdm.auto import tqdm

from scenc._paths import STORE_CARD, require_free_store
from scenc.data.files import CellFiles
from scenc.data.loading import SPLITS, FileOrder, ShuffledOrder
from scenc.data.store._annbatch import annbatch, quiet
from scenc.io import atomic_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from scenc.data.loading import LoadRequest, ReadOrder, Split

FORMAT, VERSION = "scenc-store", 1
CARD = STORE_CARD
# By these attributes annbatch recognises its collections.
COLLECTION = {"encoding-type": "annbatch-preshuffled", "encoding-version": "0.1.0"}
# Columns of obs that say where a cell is from.
PATH, ROW = "src_path", "src_row"


def build_store(
    cells: CellFiles | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    dataset_size: int = 65_536,
    cells_per_chunk: int = 64,
    cells_per_shard: int = 16_384,
    overwrite: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Path:
    """Write cells of many files into one zarr store that is quick to train on.

    Counts are brought onto one vocabulary; cells to train on are shuffled, and cells to validate on
    and to leave alone are kept apart from them. Open it with `CellStore`. Its parts ``train``,
    ``validation`` and ``test`` are collections of annbatch, which can read them without scenc.

    Parameters
    ----------
    cells
        The cells, or the files and, in `settings`, what else `CellFiles` takes.
    out
        The store; it ends in ``.zarr``, and appears whole or not at all.
    dataset_size
        Cells that are shuffled together, which memory must hold, and that become one data set.
    cells_per_chunk, cells_per_shard
        Cells that are compressed together, and that are in one file.
    overwrite
        Whether a store that is there may be replaced.
    progress
        Whether to show progress.
    **settings
        Arguments of `CellFiles`.

    Returns
    -------
    The store's path.

    Raises
    ------
    CellFilesError
        Some files cannot be used.
    FileExistsError
        There is something at `out`.
    ImportError
        annbatch is not installed.

    Examples
    --------
    >>> scenc.data.build_store(["a.h5ad", "b.h5ad"], "atlas.zarr", split_by="donor_id")
    >>> cells = scenc.data.CellStore("atlas.zarr", batch_size=256)

    References
    ----------
    annbatch, https://annbatch.readthedocs.io.
    """
    annbatch()
    path = Path(out)
    require_free_store(path, overwrite)
    if dataset_size < 1 or cells_per_chunk < 1 or cells_per_shard < cells_per_chunk:
        raise ValueError("dataset_size and cells_per_chunk must be at least 1, a shard a chunk.")
    if not isinstance(cells, CellFiles):
        cells = CellFiles(cells, progress=progress, **settings)
    elif settings:
        raise TypeError(f"{', '.join(settings)} belong(s) to the CellFiles that is given.")
    with atomic_folder(path) as draft:
        _Writer(cells, draft, dataset_size, cells_per_chunk, cells_per_shard, progress).write()
    return path


class _Writer:
    """Writes the parts of a store, and its card."""

    def __init__(
        self,
        cells: CellFiles,
        out: Path,
        size: int,
        per_chunk: int,
        per_shard: int,
        progress: bool,
    ) -> None:
        self._cells = cells
        self._out = out
        self._size = size
        self._per_chunk, self._per_shard = per_chunk, per_shard
        self._progress = progress

    def write(self) -> None:
        total = sum(self._cells.split_sizes.values())
        with tqdm(total=total, desc="writing", unit=" cells", disable=not self._progress) as bar:
            sizes = {split: self._write_part(split, bar) for split in SPLITS}
        cells = self._cells
        card = {
            "format": FORMAT,
            "version": VERSION,
            "sizes": sizes,
            "files": cells.paths,
            "vocabulary": cells.vocabulary.tolist(),
            "measured": [np.flatnonzero(genes).tolist() for genes in cells.measured],
            "batch_key": cells.batch_key,
            "labels_key": cells.labels_key,
            "columns": list(cells.keys),
        }
        (self._out / CARD).write_text(json.dumps(card), encoding="utf-8")

    def _write_part(self, split: Split, bar: tqdm[Any]) -> list[int]:
        """Write one part as a collection; return the number of cells of each data set."""
        import zarr

        order = self._order(split)
        if not len(order):
            return []
        group = zarr.open_group(self._out / split, mode="w", zarr_format=3)
        sizes = []
        for number, load in enumerate(order.loads()):
            adata = self._read(load)
            with quiet():
                annbatch().write_sharded(
                    group,
                    adata,
                    n_obs_per_chunk=min(self._per_chunk, adata.n_obs),
                    shard_size=self._per_shard,
                    key=f"dataset_{number}",
                )
            sizes.append(adata.n_obs)
            bar.update(adata.n_obs)
        group.attrs.update(COLLECTION)
        return sizes

    def _order(self, split: Split) -> ReadOrder:
        cells = self._cells
        if split != "train":
            return FileOrder(cells.cells_of(split), self._size, self._size)
        # Batches of one cell have one lane, in which no cell stands twice.
        return ShuffledOrder(cells.chunks(), 1, self._size, seed=cells.seed)

    def _read(self, load: LoadRequest) -> AnnData:
        """Read cells into an AnnData, in the order of the batches."""
        buffer = self._cells.read(load)
        rows = np.concatenate([buffer.rows_of(batch, keep_empty=False) for batch in load.batches])
        cells = buffer.cells[rows]
        files, in_file = self._cells.locate(cells)
        obs = pd.DataFrame(
            {
                PATH: pd.Categorical.from_codes(files, pd.Index(self._cells.paths)),
                ROW: in_file,
                **{key: self._cells.column(key)[cells] for key in self._cells.keys},
            },
            index=np.char.add(np.char.add(files.astype(str), ":"), in_file.astype(str)),
        )
        counts = buffer.counts
        matrix = sp.csr_matrix(
            (counts.data, counts.indices, counts.indptr),
            (len(buffer.cells), len(self._cells.vocabulary)),
        )[rows]
        matrix.sort_indices()
        return AnnData(matrix, obs, pd.DataFrame(index=self._cells.vocabulary))
