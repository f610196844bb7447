"""Paths of files of cells and of models, looked at before anything heavy is imported."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MODEL_FILES = ("model.json", "weights.safetensors")
# The same files as they are called where models are shared.
SHARED_FILES = ("config.json", "model.safetensors")
# What a store of cells says of itself, in its folder.
STORE_CARD = "scenc.json"
# Endings that are left out of the names of written files.
_ENDINGS = (".h5ad", ".zarr", ".h5")
# What a file of cells is by its ending, and the line that converts it. Checked in this order.
_CONVERSIONS = {
    ".h5ad.gz": ("a compressed file", 'in a shell: gunzip "{name}"'),
    ".h5mu": (
        "a MuData of several modalities",
        'in Python: mudata.read_h5mu("{name}")["rna"].write_h5ad("{stem}.h5ad")',
    ),
    ".loom": (
        "a loom file",
        'in Python: anndata.io.read_loom("{name}").write_h5ad("{stem}.h5ad")',
    ),
    ".h5seurat": (
        "a Seurat object",
        'in R: SeuratDisk::Convert("{name}", dest = "h5ad")',
    ),
    ".rds": (
        "an R object, such as of Seurat",
        'in R: anndataR::write_h5ad(readRDS("{name}"), "{stem}.h5ad")',
    ),
    ".csv": (
        "a table",
        'in Python: anndata.io.read_csv("{name}").write_h5ad("{stem}.h5ad") '
        "(.T.write_h5ad where cells are columns)",
    ),
    ".tsv": (
        "a table",
        'in Python: anndata.io.read_text("{name}", delimiter="\\t").write_h5ad("{stem}.h5ad") '
        "(.T.write_h5ad where cells are columns)",
    ),
}
_CONVERSIONS |= {
    ".rdata": (
        "a file of R objects",
        'in R: load("{name}"); anndataR::write_h5ad(OBJECT, "{stem}.h5ad")',
    ),
    **{f"{ending}.gz": _CONVERSIONS[ending] for ending in (".csv", ".tsv")},
}


def is_address(path: str | PathLike[str]) -> bool:
    """Whether it names a file elsewhere, such as ``https://...`` or ``s3://...``."""
    return "://" in fspath(path)


def path_name(path: str) -> str:
    """Return the name of a file or folder, without the folders it is in."""
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def refuse_foreign(path: str | PathLike[str]) -> None:
    """Refuse a file whose ending says that it is of another kind.

    Raises
    ------
    ValueError
        Naming what it is, and the line that converts it.
    """
    name = fspath(path).rstrip("/")
    lower = name.lower()
    for ending, (kind, line) in _CONVERSIONS.items():
        if lower.endswith(ending):
            line = line.format(name=name, stem=name[: -len(ending)])
            raise ValueError(f"{name} is {kind}, no .h5ad file. Convert it, {line}")
    if lower.endswith((".mtx", ".mtx.gz")):
        raise ValueError(
            f"{name} is the matrix of a Cell Ranger folder: name the folder it is in, with the "
            "files of its barcodes and features."
        )


def require_files(paths: Iterable[str | PathLike[str]]) -> None:
    """Refuse files of cells that are not there, or of another kind by their ending.

    Addresses are not looked up.

    Raises
    ------
    FileNotFoundError, ValueError
        The message names the first of them.
    """
    for path in paths:
        if not is_address(path) and not Path(path).exists():
            what = "zarr store" if fspath(path).rstrip("/").endswith(".zarr") else "file"
            raise FileNotFoundError(f"There is no {what} {fspath(path)}.")
        refuse_foreign(path)


def model_files(folder: Path) -> tuple[str, str]:
    """Return what the files of a saved model are called: of all but the weights, of these."""
    has_shared = (folder / SHARED_FILES[0]).is_file()
    return SHARED_FILES if has_shared and not (folder / MODEL_FILES[0]).is_file() else MODEL_FILES


def require_model(folder: Path, remedy: str = "name the one that a model was saved in") -> None:
    """Refuse a folder that lacks a file of a saved model.

    Raises
    ------
    FileNotFoundError
        Naming the folder, and the file or what to do where there is no folder.
    """
    if not folder.exists():
        raise FileNotFoundError(f"There is no folder {folder}: {remedy}.")
    for name in model_files(folder):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no saved scenc model: {name} is missing.")


def is_store(path: str | PathLike[str]) -> bool:
    """Whether it is a store of cells that scenc has built."""
    return not is_address(path) and (Path(path) / STORE_CARD).is_file()


def refuse_store(path: str | PathLike[str], remedy: str) -> None:
    """Refuse a store of cells where files are wanted.

    Raises
    ------
    ValueError
        Naming the store, and the remedy.
    """
    if is_store(path):
        raise ValueError(f"{fspath(path)} is a store of many files: {remedy}.")


def require_free_store(path: Path, overwrite: bool) -> None:
    """Refuse to write a store over something, unless it is a store that may be replaced.

    Raises
    ------
    ValueError
        The path does not end in ``.zarr``.
    FileExistsError
        There is something.
    """
    if path.suffix != ".zarr":
        raise ValueError(f"{path}: a store ends in .zarr.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace the store there.")
    if path.exists() and not is_store(path):
        raise FileExistsError(f"{path} exists and is no store of scenc: it is not replaced.")


def output_paths(paths: Sequence[str], out: Path, suffix: str, overwrite: bool) -> list[Path]:
    """Name the file to write for each of several files.

    It is called as its source is. Where sources in different folders have one name, the names of
    the folders by which they differ come first: ``s1/sample.h5ad`` becomes ``s1_sample.h5ad``.

    Parameters
    ----------
    paths
        Paths or addresses of the sources.
    out
        Folder to write into.
    suffix
        Ending of the written files, without a dot.
    overwrite
        Whether files that are there may be replaced.

    Raises
    ------
    ValueError
        Two files would be written to one, or a source is to be replaced.
    FileExistsError
        A file is there already.
    """
    stems = _told_apart(paths)
    twice = {stem for stem in stems if stems.count(stem) > 1}
    if twice:
        raise ValueError(
            f"Two files are called {min(twice)}, and would be written to the same file: "
            "write them into different folders."
        )
    targets = [out / f"{stem}.{suffix}" for stem in stems]
    for path, target in zip(paths, targets, strict=True):
        if not is_address(path) and Path(path).resolve() == target.resolve():
            raise ValueError(f"{target} is one of the files to read: choose another folder.")
        if target.exists() and not overwrite:
            raise FileExistsError(f"{target} exists; pass overwrite=True to replace it.")
    return targets


def _told_apart(paths: Sequence[str]) -> list[str]:
    """Return names of files without endings, with names of folders where they are needed."""
    parts = [_parts(path) for path in paths]
    stems = [path[-1] for path in parts]
    names = list(stems)
    for stem in set(stems):
        alike = [number for number, other in enumerate(stems) if other == stem]
        depth = min(len(parts[number]) for number in alike)
        tails = [parts[number][-depth:-1] for number in alike]
        # The folder of a name need not be there at all: those of the shortest path decide.
        differ = [level for level in range(depth - 1) if len({tail[level] for tail in tails}) > 1]
        while differ and len({tuple(tail[i] for i in differ[1:]) for tail in tails}) == len(alike):
            del differ[0]
        for number, tail in zip(alike, tails, strict=True):
            names[number] = "_".join([*(tail[level] for level in differ), stem])
    return names


def _parts(path: str) -> list[str]:
    """Return the folders and the name without its ending."""
    whole = path if is_address(path) else str(Path(path).absolute())
    *folders, name = whole.replace("\\", "/").rstrip("/").split("/")
    ending = next((ending for ending in _ENDINGS if name.endswith(ending)), "")
    return [*folders, name.removesuffix(ending)]
