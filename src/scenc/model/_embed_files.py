"""Embedding files of cells, read and written piece by piece."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import torch
from anndata import AnnData
from anndata.io import read_elem
from tqdm.auto import tqdm

from scenc._paths import output_paths
from scenc._torch_settings import without_cudnn_attention
from scenc.io import atomic_folder, atomic_path, opened
from scenc.model._inference import inference_precision
from scenc.model._provenance import describe_embedding, record_embedding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from scenc.data import CellFiles, TokenBatch
    from scenc.nn import CellTransformer

# Cells of a chunk of a written zarr array.
_CHUNK = 4096


def embed_files(
    network: CellTransformer,
    cells: CellFiles,
    out: Path,
    *,
    model: dict[str, Any],
    format: str,
    key_added: str,
    overwrite: bool,
    progress: bool,
    read_out: Literal["expression"] | int | None,
    precision: str,
) -> list[Path]:
    """Embed files that give the tokens the network was made for, as `scenc.Model.embed_files`.

    `model` is what `describe_model` returns.
    """
    targets = output_paths(cells.paths, out, format, overwrite)
    width = network.config.d_model
    network.eval()
    embed = partial(network.embed_cells, read_out=read_out)
    with tqdm(total=cells.n_obs, desc="Embedding", unit="cell", disable=not progress) as bar:
        for number, (source, target) in enumerate(zip(cells.paths, targets, strict=True)):
            matched = cells.matches[number]
            uns = {f"{key_added}_genes": matched.to_uns()}
            how = {
                "max_genes": "context",
                "draw": "random",
                "read_out": read_out,
                "precision": precision,
            }
            record_embedding(uns, key_added, describe_embedding(model, matched, how))
            with (
                _embedded_file(source, target, key_added, width, uns) as array,
                inference_precision(precision, network.device),
            ):
                n_empty = _embed_file(embed, network.device, cells, number, array, bar)
            if n_empty:
                warnings.warn(
                    f"{source}: {n_empty} cells have no counts in the model's genes and are "
                    "embedded as zeros.",
                    UserWarning,
                    stacklevel=3,
                )
    return targets


@without_cudnn_attention()
@torch.inference_mode()
def _embed_file(
    embed: Callable[[TokenBatch], torch.Tensor],
    device: torch.device,
    cells: CellFiles,
    number: int,
    array: Any,
    bar: tqdm[Any],
) -> int:
    """Fill an array on disk with a file's embeddings; return how many cells are empty."""
    n_empty = written = 0
    rows: list[NDArray[np.int64]] = []
    values: list[NDArray[np.float32]] = []
    for batch in cells.predict_dataloader(number):
        _, in_file = cells.locate(batch.cells.numpy())
        embedded = embed(batch.to(device))
        rows.append(in_file)
        values.append(embedded.float().cpu().numpy())
        n_empty += int((batch.lengths == 0).sum())
        bar.update(len(in_file))
        # Cells come sorted by length within some batches at a time. Once all of these are there,
        # their rows are one run of the file, which is written at once.
        held = np.concatenate(rows)
        if held.min() == written and held.max() == written + len(held) - 1:
            array[written : written + len(held)] = np.concatenate(values)[np.argsort(held)]
            written += len(held)
            rows, values = [], []
    return n_empty


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
                # anndata reads the consolidated metadata, which lack the new array: renew them.
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
