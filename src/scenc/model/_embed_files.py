"""Embedding files of cells, read and written piece by piece."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import torch
from anndata import AnnData
from anndata.io import read_elem
from tqdm.auto import tqdm

from scenc._arguments import choose
from scenc.data import CellFiles
from scenc.io._atomic import atomic_folder, atomic_path
from scenc.io._locate_counts import opened
from scenc.model._base import ModelBase

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

_BATCH_SIZE = 128
_CHUNK = 4096


class EmbedFilesMixin(ModelBase):
    """Embedding of files that need not fit into memory."""

    def embed_files(
        self,
        files: CellFiles | Iterable[str | os.PathLike[str]],
        out: str | os.PathLike[str],
        *,
        format: Literal["h5ad", "zarr"] = "h5ad",  # what users call it
        key_added: str = "X_scenc",
        batch_size: int | None = None,
        layer: str | None = None,
        gene_ids: str | None = None,
        overwrite: bool = False,
        progress: bool = True,
    ) -> list[Path]:
        """Embed the cells of files, each into a file of its own, without holding any in memory.

        Every written file has the cells of its source, in their order, with all of obs, and the
        embedding in obsm; it has no counts. It appears whole or not at all.

        Parameters
        ----------
        files
            Paths or addresses of .h5ad files and zarr stores, or `scenc.data.CellFiles` of them.
        out
            Folder for the written files, which are called as their sources are.
        format
            What is written: ``"h5ad"`` or ``"zarr"``.
        key_added
            Where in obsm the embedding goes.
        batch_size
            Cells per batch; changes speed and memory only.
        layer, gene_ids
            As in `scenc.data.CellFiles`, if paths are given.
        overwrite
            Whether files that are there may be replaced; otherwise it is an error.
        progress
            Whether to show progress.

        Returns
        -------
        The written files, in the order of `files`.

        Raises
        ------
        RuntimeError
            The model is not trained.
        CellFilesError
            Some files cannot be used; the message names everything that is wrong with any of them.
        FileExistsError
            A file that is to be written exists.

        Examples
        --------
        >>> model.embed_files(["lung.h5ad", "gut.zarr"], "embedded")
        """
        self._require_trained()
        choose(format, ("h5ad", "zarr"), "format")
        if isinstance(files, CellFiles):
            cells = copy(files)
        else:
            cells = CellFiles(
                files,
                layer=layer,
                gene_ids=gene_ids,
                genes=self.vocabulary.tolist(),
                validation_size=0.0,
                progress=progress,
            )
        cells.use_vocabulary(self.vocabulary, self.counted)
        cells.tokenizer = self._tokenizer()
        cells.batch_size = batch_size or _BATCH_SIZE
        cells.seed = self.config.seed
        targets = _targets(cells.paths, Path(out), format, overwrite)
        bar = tqdm(total=cells.n_obs, desc="Embedding", unit="cell", disable=not progress)
        with bar:
            for number, target in enumerate(targets):
                uns = {f"{key_added}_genes": cells.matches[number].to_uns()}
                with _embedded_file(
                    cells.paths[number], target, key_added, self.config.d_model, uns
                ) as array:
                    n_empty = self._embed_file(cells, number, array, bar)
                if n_empty:
                    warnings.warn(
                        f"{cells.paths[number]}: {n_empty} cells have no counts in the model's "
                        "genes and are embedded as zeros.",
                        UserWarning,
                        stacklevel=2,
                    )
        return targets

    def _embed_file(self, cells: CellFiles, number: int, array: Any, bar: tqdm[Any]) -> int:
        """Fill an array on disk with a file's embeddings; return how many cells are empty."""
        self.module.eval()
        device = self.module.device
        n_empty = written = 0
        rows: list[NDArray[np.int64]] = []
        values: list[NDArray[np.float32]] = []
        with torch.inference_mode():
            for batch in cells.predict_dataloader(number):
                _, in_file = cells.locate(batch.cells.numpy())
                embedded = self.module.embed_cells(batch.to(device, non_blocking=True))
                rows.append(in_file)
                values.append(embedded.float().cpu().numpy())
                n_empty += int((batch.lengths == 0).sum())
                bar.update(len(in_file))
                # Some batches' cells come by their length: once these are whole, they are a run.
                found = np.concatenate(rows)
                if found.min() == written and found.max() == written + len(found) - 1:
                    array[written : written + len(found)] = np.concatenate(values)[
                        np.argsort(found)
                    ]
                    written += len(found)
                    rows, values = [], []
        return n_empty


def _targets(paths: list[str], out: Path, suffix: str, overwrite: bool) -> list[Path]:
    """Name the files to write, before any work is done."""
    stems = [
        Path(path.rstrip("/")).name.removesuffix(".h5ad").removesuffix(".zarr") for path in paths
    ]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    if twice:
        raise ValueError(
            f"Two files are called {min(twice)}, and so would be what is written: embed them into "
            "different folders."
        )
    targets = [out / f"{stem}.{suffix}" for stem in stems]
    for path, target in zip(paths, targets, strict=True):
        if "://" not in path and Path(path).resolve() == target.resolve():
            raise ValueError(f"{target} is one of the files to embed: choose another folder.")
        if target.exists() and not overwrite:
            raise FileExistsError(f"{target} exists; pass overwrite=True to replace it.")
    return targets


@contextmanager
def _embedded_file(
    source: str, target: Path, key: str, width: int, uns: dict[str, Any]
) -> Iterator[Any]:
    """Yield an array on disk, in a file that has the source's obs; the file appears when done."""
    with opened(source) as group:
        frame = AnnData(obs=read_elem(group["obs"]), uns=uns)
    shape = (frame.n_obs, width)
    if target.suffix == ".zarr":
        import zarr

        with atomic_folder(target) as draft:
            frame.write_zarr(draft)
            obsm = zarr.open_group(draft, mode="r+", use_consolidated=False)["obsm"]
            chunks = (min(_CHUNK, shape[0]), width)
            array = obsm.create_array(key, shape=shape, dtype="float32", chunks=chunks)  # type: ignore[union-attr]
            yield _as_array(array)
            with warnings.catch_warnings():
                # anndata reads the list of what is in a store, which knows nothing of the array.
                warnings.filterwarnings("ignore", message=".*Consolidated metadata.*")
                zarr.consolidate_metadata(draft)
    else:
        with atomic_path(target) as draft:
            frame.write_h5ad(draft)
            with h5py.File(draft, "r+") as file:
                yield _as_array(file["obsm"].create_dataset(key, shape, np.float32))


def _as_array(node: Any) -> Any:
    """Mark a new array as anndata does."""
    node.attrs["encoding-type"] = "array"
    node.attrs["encoding-version"] = "0.2.0"
    return node
