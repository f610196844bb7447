from __future__ import annotations

import json
import re
import struct
import warnings
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from scenc.genes._npy_text import read_text_array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

#: what the libraries below raise when the bytes are not those of their format
_DAMAGE = (RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError,
           AssertionError, OSError, OverflowError, struct.error)  # fmt: skip
FORMAT = "scenc.protein_embeddings"


@dataclass(frozen=True)
class RawVectors:
    """Names and vectors as a file has them, before checks of names and values."""

    names: list[str]
    matrix: NDArray[Any]
    symbols: list[str] | None = None
    source: str | None = None


def read_vectors(path: Path) -> RawVectors:
    """Read gene vectors by the ending of the file name."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    suffix = path.suffix.lower()
    if suffix in (".pkl", ".pickle"):
        raise ValueError(
            f"{path} is a pickle, which can run code when loaded, so it is not. Convert it where "
            'it was made: torch.save({gene: torch.as_tensor(vector) ...}, "vectors.pt").'
        )
    if suffix not in READERS:
        raise ValueError(f"{path}: unknown ending {suffix!r}; known are {', '.join(READERS)}.")
    try:
        return READERS[suffix](path)
    except _DAMAGE as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} is damaged or not what its ending says: {error}") from error


def stack(vectors: Mapping[str, NDArray[Any]], source: object) -> RawVectors:
    """Stack one vector per name into a matrix; refuse unequal lengths and name the culprit."""
    if not vectors:
        raise ValueError(f"{source} holds no vectors.")
    sizes: dict[int, list[str]] = {}
    for name, vector in vectors.items():
        if vector.ndim > 1 and vector.size == vector.shape[-1]:
            vector = vector.reshape(-1)
        if vector.ndim != 1 or vector.size == 0:
            raise ValueError(
                f"{source}: {name!r} has shape {vector.shape}, which is not one vector. Expected a "
                "dictionary from gene to vector; this looks like the weights of a model."
            )
        sizes.setdefault(vector.size, []).append(name)
    if len(sizes) > 1:
        usual = max(sizes, key=lambda size: len(sizes[size]))
        odd = next(size for size in sizes if size != usual)
        raise ValueError(
            f"{source}: {sizes[odd][0]!r} has {odd:,} dimensions, but {len(sizes[usual]):,} other "
            f"genes have {usual:,}. Vectors must be of one length."
        )
    matrix = np.stack([vector.reshape(-1) for vector in vectors.values()])
    return RawVectors(list(vectors), matrix)


def read_torch(path: Path) -> RawVectors:
    """Read a dictionary of tensors, alone or as ``protein_embeds_dict`` in a checkpoint."""
    import pickle

    import torch

    try:
        with warnings.catch_warnings():
            # PyTorch comments on odd pickles before it refuses them.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        culprit = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({culprit[1]})" if culprit else ""
        raise ValueError(
            f"{path} holds Python objects other than tensors{what} or is damaged; such objects are "
            "not loaded because unpickling can run code. Where you trust the file, convert it: "
            "torch.save({gene: torch.as_tensor(vector) for gene, vector in vectors.items()}, path)."
        ) from error
    except _DAMAGE as error:
        raise ValueError(f"{path} is not a PyTorch file or is damaged: {error}") from error
    if isinstance(content, dict) and "protein_embeds_dict" in content:
        content = content["protein_embeds_dict"]
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__} without gene names; expected a dictionary "
            "from gene to vector, alone or as protein_embeds_dict in a checkpoint."
        )
    return stack({name: _numpy(name, value, path) for name, value in content.items()}, path)


def _numpy(name: object, value: Any, path: Path) -> NDArray[Any]:
    import torch

    if not isinstance(name, str) or not isinstance(value, torch.Tensor):
        raise ValueError(
            f"{path}: {name!r} is a {type(value).__name__}. Expected a dictionary from gene to "
            "vector; a checkpoint must have one as protein_embeds_dict."
        )
    value = value.detach()
    return np.asarray((value.float() if value.dtype == torch.bfloat16 else value).numpy())


def read_hdf5(path: Path) -> RawVectors:
    """Read TranscriptFormer's ``keys`` and ``arrays/<key>``, or an AnnData file."""
    import h5py

    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file or is damaged.")
    with h5py.File(path, "r") as file:
        if "keys" in file and "arrays" in file:
            names, arrays = [_decode(key) for key in file["keys"][()]], file["arrays"]
            if lost := [name for name in names if name not in arrays]:
                raise ValueError(f"{path}: no arrays/{lost[0]} for the key {lost[0]!r}.")
            if extra := set(arrays) - set(names):
                raise ValueError(f"{path}: arrays/{min(extra)} is not among the keys.")
            if len(set(names)) < len(names):
                raise ValueError(f"{path}: keys are repeated.")
            return stack({name: np.asarray(arrays[name][()]) for name in names}, path)
        if "X" in file and "obs" in file:
            return read_anndata(path)
    raise ValueError(
        f"{path} has neither keys and arrays (TranscriptFormer) nor X and obs (AnnData)."
    )


def read_anndata(path: Path) -> RawVectors:
    """Read vectors from ``X`` and genes from ``obs_names``."""
    import anndata
    import h5py

    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file or is damaged.")
    return from_anndata(anndata.read_h5ad(path), path)


def from_anndata(adata: Any, source: object) -> RawVectors:
    """Take vectors from ``X`` and genes from ``obs_names``."""
    if adata.X is None:
        raise ValueError(f"{source}: the AnnData object has no X; it must hold the vectors.")
    matrix = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    return RawVectors([str(name) for name in adata.obs_names], matrix)


def read_parquet(path: Path) -> RawVectors:
    """Read a table whose index holds the genes, as scPRINT's."""
    if find_spec("pyarrow") is None:
        raise ImportError(f"{path}: reading parquet needs pyarrow: pip install pyarrow.")
    import pandas as pd

    table = pd.read_parquet(path, engine="pyarrow")
    texts = [column for column in table.columns if not pd.api.types.is_numeric_dtype(table[column])]
    if len(texts) == 1 and isinstance(table.index, pd.RangeIndex):
        table = table.set_index(texts[0])
    elif texts:
        raise ValueError(f"{path}: column {texts[0]!r} is not numeric; genes belong in the index.")
    if isinstance(table.index, pd.RangeIndex):
        raise ValueError(f"{path} has no gene names; they belong in the index.")
    return RawVectors([str(name) for name in table.index], table.to_numpy())


def read_npz(path: Path) -> RawVectors:
    """Read a matrix and its names from a numpy archive."""
    try:
        archive = np.load(path, allow_pickle=False)
    except (*_DAMAGE, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a numpy archive or is damaged: {error}") from error
    if not hasattr(archive, "zip"):
        raise ValueError(f"{path} is a single array without names, not a numpy archive.")
    with archive:
        matrix_key = _first(archive.files, ("embedding", "embeddings", "vectors", "X"))
        ids = _first(archive.files, ("ensembl_id", "ensembl_ids"))
        symbols = _first(archive.files, ("symbol", "symbols"))
        names = ids or symbols or _first(archive.files, ("keys", "names", "genes"))
        if matrix_key is None or names is None:
            raise ValueError(
                f"{path} has {', '.join(archive.files)}; expected embedding or embeddings, and "
                "ensembl_id, symbol, keys or names."
            )
        texts = {}
        for key in {names, symbols} - {None}:
            with archive.zip.open(f"{key}.npy") as stream:
                texts[key] = read_text_array(stream, f"{path}: {key}")
        both = texts[symbols] if ids and symbols else None
        return RawVectors(texts[names], np.asarray(archive[matrix_key]), both)


def _first(keys: list[str], wanted: tuple[str, ...]) -> str | None:
    return next((key for key in wanted if key in keys), None)


def read_safetensors(path: Path) -> RawVectors:
    """Read the package's own format, or one tensor per gene."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            vectors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError) as error:
        raise ValueError(f"{path} is not a safetensors file or is damaged: {error}") from error
    if metadata.get("format") != FORMAT:
        return stack(vectors, path)
    symbols = json.loads(metadata.get("symbols", "null"))
    names = json.loads(metadata["names"])
    return RawVectors(names, vectors["embeddings"], symbols, metadata.get("source"))


def _decode(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


READERS: dict[str, Callable[[Path], RawVectors]] = {
    ".safetensors": read_safetensors,
    ".pt": read_torch,
    ".pth": read_torch,
    ".torch": read_torch,
    ".ckpt": read_torch,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".h5ad": read_anndata,
    ".npz": read_npz,
    ".parquet": read_parquet,
}
