"""Find the raw counts in an .h5ad file or zarr store without loading them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scenc._paths import is_address, refuse_foreign, refuse_store
from scenc.io._addresses import explained
from scenc.io._cell_ranger import convert, find_matrix, link_h5

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from anndata import AnnData
    from numpy.typing import NDArray

# An h5py or zarr group: both are mappings with attributes.
type Group = Any

# How files begin that are called .h5ad and are something else.
_SIGNS = {
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself with git lfs pull",
    b"<": "a web page, perhaps one that says why a download failed",
    b"\x1f\x8b": "compressed; decompress it with gunzip",
    b"pk\x03\x04": "a zip archive; unpack it",
}
KINDS = {"csr_matrix": "csr", "csc_matrix": "csc", "array": "dense"}
# Stored values looked at, in so many places of a matrix, to tell counts from other numbers.
_N_PLACES, _N_VALUES = 8, 20_000


@dataclass(frozen=True, slots=True)
class CountMatrix:
    """A matrix of counts in a file.

    Attributes
    ----------
    key
        Where it is: ``"X"``, ``"raw/X"`` or ``"layers/..."``.
    var
        Where its genes are: ``"var"`` or ``"raw/var"``.
    kind
        ``"csr"``, ``"csc"`` or ``"dense"``.
    shape
        Number of cells and of genes.
    """

    key: str
    var: str
    kind: str
    shape: tuple[int, int]


def open_file(path: str | os.PathLike[str]) -> Group:
    """Open a file of cells for reading: an .h5ad file, a zarr store, or what Cell Ranger writes.

    Parameters
    ----------
    path
        A local path, or an address that fsspec knows (``https://...``, ``s3://...``).

    Raises
    ------
    FileNotFoundError
        There is no such file, or its host cannot be reached.
    ValueError
        It is of another kind, or incomplete; the message says what it is.
    """
    name = str(path)
    refuse_foreign(name)
    refuse_store(name, "scenc.data.CellStore reads it")
    is_zarr = name.rstrip("/").endswith(".zarr")
    if is_address(name):
        with explained(name):
            return _open_zarr(name) if is_zarr else _open_hdf5(_stream(name), name)
    if is_zarr:
        return _open_zarr(name)
    if Path(name).is_dir():
        folder = find_matrix(Path(name))
        if folder is not None:
            return _open_hdf5(convert(folder), name)
        _refuse_folder(Path(name))
        return _open_zarr(name)
    if not Path(name).is_file():
        raise FileNotFoundError(f"There is no file {name}.")
    return _open_hdf5(name, name)


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Group]:
    """Open a file as `open_file` does, and close it in the end."""
    group = open_file(path)
    try:
        yield group
    finally:
        # A zarr group holds nothing open.
        if hasattr(group, "close"):
            group.close()


def read_anndata(path: str | os.PathLike[str]) -> AnnData:
    """Read a whole file of cells of any kind that `open_file` opens.

    Raises
    ------
    FileNotFoundError, ValueError
        As `open_file`.
    """
    import anndata

    with opened(path) as group:
        if "encoding-type" in group.attrs:
            read: AnnData = anndata.io.read_elem(group)
            return read
        # Older versions did not mark the whole: anndata knows where they kept its parts.
        is_zarr = not hasattr(group, "close")
    return (anndata.read_zarr if is_zarr else anndata.read_h5ad)(path)


def _stream(address: str) -> Any:
    import fsspec

    return fsspec.open(address, "rb").open()


def _open_hdf5(source: Any, name: str) -> Group:
    import h5py

    try:
        # No cache of chunks: cells are read in random order, so it is of no use, and 8 MiB for each
        # array add up (reading 20 files of 5,000 cells peaks at 1.9 GB without, 2.8 GB with it).
        group = h5py.File(source, "r", rdcc_nbytes=0)
    except OSError as error:
        raise ValueError(f"{name} {_why_not_hdf5(name, str(error))}") from None
    if "obs" not in group:
        linked = link_h5(group, name)
        if linked is not None:
            group.close()
            return _open_hdf5(linked, name)
    return _checked(group, name)


def _why_not_hdf5(name: str, error: str) -> str:
    """Say what is wrong with a file that HDF5 does not open."""
    if "truncated" in error:
        return f"is incomplete: {error}."
    if "unable to lock" in error:
        return (
            "is locked: another program writes it, or its disk knows no locks (then set "
            f"HDF5_USE_FILE_LOCKING=FALSE): {error}."
        )
    if "Permission denied" in error:
        return f"may not be read by you: {error}."
    if not is_address(name) and Path(name).is_file():
        with Path(name).open("rb") as file:
            start = file.read(64)
        for sign, what in _SIGNS.items():
            if start.lstrip().lower().startswith(sign):
                return f"is no .h5ad file: it is {what}."
        if not start:
            return "is empty."
    return f"is no .h5ad file, or damaged: {error}."


def _refuse_folder(folder: Path) -> None:
    """Refuse a folder of files, which is no zarr store.

    Raises
    ------
    ValueError
        Naming the files in it.
    """
    if any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zmetadata")):
        return
    files = sorted([*folder.glob("*.h5ad"), *folder.glob("*.zarr"), *folder.glob("*.h5")])
    if files:
        raise ValueError(
            f"{folder} is a folder of {len(files)} files of cells, like {files[0].name}: name the "
            "files themselves."
        )


def _open_zarr(name: str) -> Group:
    import zarr

    if not is_address(name) and not Path(name).exists():
        raise FileNotFoundError(f"There is no zarr store {name}.")
    try:
        group = zarr.open_group(name, mode="r")
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{name} is no zarr store, or damaged: {error}.") from error
    return _checked(group, name)


def _checked(group: Group, name: str) -> Group:
    if "mod" in group and "X" not in group:
        there = sorted(group["mod"], key="rna".__ne__)
        raise ValueError(
            f"{name} is a MuData of {', '.join(there)}, no .h5ad file. Convert the one with the "
            f'counts, in Python: mudata.read({name!r})["{there[0]}"].write_h5ad("cells.h5ad")'
        )
    missing = [part for part in ("obs", "var") if part not in group]
    if missing:
        raise ValueError(f"{name} holds no AnnData: it has no {' and no '.join(missing)}.")
    return group


def find_counts(group: Group, where: str, layer: str | None = None) -> CountMatrix:
    """Find the raw counts of an open file.

    Parameters
    ----------
    group
        The file.
    where
        Name of the file in error messages.
    layer
        ``"X"``, ``"raw"`` or the name of a layer; ``None``: the raw matrix if it holds counts, else
        X if that does. (CELLxGENE keeps counts in raw, or in X where nothing is normalised.)

    Returns
    -------
    The matrix. Values of a matrix that `layer` names are not checked.

    Raises
    ------
    KeyError
        The named matrix is missing.
    ValueError
        Neither holds counts; the message says what they hold instead.
    """
    if layer is not None:
        matrix = _look_up(group, {"X": "X", "raw": "raw/X"}.get(layer, f"layers/{layer}"), where)
        if matrix is None:
            there = ", ".join(repr(name) for name in _matrices(group)) or "none"
            raise KeyError(f"{where} has no matrix {layer!r} (there: {there}).")
        return matrix
    reasons = []
    for key in ("raw/X", "X"):
        matrix = _look_up(group, key, where)
        odd = "is not there" if matrix is None else odd_value(sample_values(group, matrix))
        if matrix is not None and odd is None:
            return matrix
        reasons.append(f"{key} {odd}")
    layers = [name for name in _matrices(group) if name not in ("X", "raw")]
    hint = f" It has the layers {', '.join(map(repr, layers))}: name the one with counts."
    raise ValueError(f"{where} holds no counts: {'; '.join(reasons)}.{hint if layers else ''}")


def sample_values(group: Group, matrix: CountMatrix) -> NDArray[Any]:
    """Read some stored values of a matrix, from places all over it."""
    node = group[matrix.key]
    if matrix.kind == "dense":
        size = max(1, _N_VALUES // max(1, matrix.shape[1]))
    else:
        node, size = node["data"], _N_VALUES
    starts = np.unique(np.linspace(0, max(0, node.shape[0] - size), _N_PLACES).astype(int))
    return np.concatenate([np.ravel(node[start : start + size]) for start in starts.tolist()])


def odd_value(values: NDArray[Any]) -> str | None:
    """Return why values are not counts, or None if they are."""
    if values.dtype.kind not in "biuf":
        return f"holds values of type {values.dtype}"
    flaws = [(f"{what} values", flags) for what, flags in flag_unusable(values)]
    for what, flags in (*flaws, ("fractions", flag_fractions(values))):
        if flags.any():
            return f"holds {what} (like {values[int(flags.argmax())]:.6g})"
    return None


def flag_unusable(values: NDArray[Any]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield each reason why a value can never be a count, and which values it applies to."""
    yield "NaN or infinite", ~np.isfinite(values)
    yield "negative", values < 0


def flag_fractions(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which values are not integers: doubtful counts, but usable."""
    flags: NDArray[np.bool_] = values != np.floor(values)
    return flags


def _look_up(group: Group, key: str, where: str) -> CountMatrix | None:
    if key not in group:
        return None
    node = group[key]
    encoding = node.attrs.get("encoding-type", "array" if hasattr(node, "shape") else None)
    kind = KINDS.get(encoding)
    if kind is None:
        raise ValueError(
            f"{where}: {key} is stored as {encoding!r}, which cannot be read. "
            "Read the file with anndata and write it again."
        )
    shape = node.shape if kind == "dense" else node.attrs["shape"]
    if len(shape) != 2:
        raise ValueError(f"{where}: {key} has {len(shape)} dimensions; cells x genes are needed.")
    var = "raw/var" if key == "raw/X" else "var"
    return CountMatrix(key, var, kind, (int(shape[0]), int(shape[1])))


def _matrices(group: Group) -> list[str]:
    names = [name for name, key in (("X", "X"), ("raw", "raw/X")) if key in group]
    return [*names, *group.get("layers", ())]
