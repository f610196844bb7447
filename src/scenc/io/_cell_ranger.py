"""Cell Ranger's output read as if it were an .h5ad file: 10x .h5 files, folders of matrix.mtx.

At the first need, once in each process, a temporary .h5ad file is written. For a 10x .h5 file it is
small: these hold genes x cells by columns, which is cells x genes by rows, so that links to their
arrays do. The text of a matrix.mtx cannot be read row by row, and is converted.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

if TYPE_CHECKING:
    import h5py

# What has been converted, by path and time of change; it goes with the process.
_CONVERTED: dict[tuple[str, int], Path] = {}


class MatrixFolder(NamedTuple):
    """The files of a Cell Ranger folder."""

    matrix: Path
    features: Path
    barcodes: Path


def link_h5(file: h5py.File, name: str) -> Path | None:
    """Write a temporary .h5ad file with links to the counts of a 10x .h5 file.

    Parameters
    ----------
    file
        The open file.
    name
        Its path; or its address, in which case the counts are copied.

    Returns
    -------
    The file, or None if `file` is no 10x .h5 file.

    Raises
    ------
    ValueError
        It holds several genomes, each in a matrix of its own.
    """
    group = _matrix_group(file, name)
    if group is None:
        return None
    is_local = Path(name).is_file()
    key = _key(Path(name)) if is_local else (name, 0)
    if key not in _CONVERTED:
        import h5py
        from anndata.io import write_elem

        path = _new_file()
        n_genes, n_cells = (int(n) for n in group["shape"][:])
        with h5py.File(path, "w") as written:
            written.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
            write_elem(written, "obs", pd.DataFrame(index=_texts(group["barcodes"])))
            write_elem(written, "var", _features(group))
            matrix = written.create_group("X")
            matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
            matrix.attrs["shape"] = np.array([n_cells, n_genes])
            for part in ("data", "indices", "indptr"):
                if is_local:
                    matrix[part] = h5py.ExternalLink(Path(name).resolve(), f"{group.name}/{part}")
                else:
                    file.copy(group[part], matrix, part)
        _CONVERTED[key] = path
    return _CONVERTED[key]


def find_matrix(folder: Path) -> MatrixFolder | None:
    """Return the files of a Cell Ranger folder, of any version; None if it is none.

    Raises
    ------
    ValueError
        It holds several matrices, or a matrix without barcodes or features, or is the folder
        around the one to name.
    """
    matrices = sorted([*folder.glob("*matrix.mtx"), *folder.glob("*matrix.mtx.gz")])
    if not matrices:
        _refuse_outer(folder)
        return None
    prefixes = {path.name.partition("matrix.mtx")[0] for path in matrices}
    if len(prefixes) > 1:
        raise ValueError(
            f"{folder} holds several matrices ({', '.join(path.name for path in matrices[:3])}): "
            "put each into a folder of its own, with its barcodes and features."
        )
    (prefix,) = prefixes
    return MatrixFolder(
        matrices[-1],
        _beside(folder, prefix, ("features.tsv", "genes.tsv")),
        _beside(folder, prefix, ("barcodes.tsv",)),
    )


def convert(files: MatrixFolder) -> Path:
    """Write a matrix folder into a temporary .h5ad file, if this process has not yet.

    Raises
    ------
    ValueError
        The files are damaged, or do not belong together.
    """
    key = _key(files.matrix)
    if key not in _CONVERTED:
        from anndata import AnnData

        counts, obs, var = _read_matrix(files)
        path = _new_file()
        AnnData(counts, obs, var).write_h5ad(path)
        _CONVERTED[key] = path
    return _CONVERTED[key]


def _key(path: Path) -> tuple[str, int]:
    return str(path.resolve()), path.stat().st_mtime_ns


def _new_file() -> Path:
    """Return the name of a file that goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="scenc-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "cells.h5ad"


def _matrix_group(file: h5py.File, name: str) -> Any:
    """Return the group with the counts, of Cell Ranger 3 and later or of 2."""
    if "matrix" in file and "barcodes" in file["matrix"]:
        return file["matrix"]
    genomes = [key for key in file if hasattr(file[key], "keys") and "gene_names" in file[key]]
    if len(genomes) > 1:
        raise ValueError(
            f"{name} holds a matrix for each of {', '.join(genomes)}: read the one you want with "
            f"scanpy.read_10x_h5({name!r}, genome={genomes[0]!r}) and write it with write_h5ad."
        )
    return file[genomes[0]] if genomes else None


def _features(group: Any) -> pd.DataFrame:
    """Return the features of a 10x .h5 file as var, with the columns that scanpy gives it."""
    if "features" not in group:  # Cell Ranger 2
        return _named(_texts(group["genes"]), _texts(group["gene_names"]), {})
    features = group["features"]
    more = {"feature_types": "feature_type", "genome": "genome"}
    columns = {name: _texts(features[key]) for name, key in more.items() if key in features}
    return _named(_texts(features["id"]), _texts(features["name"]), columns)


def _named(ids: list[str], symbols: list[str], columns: dict[str, list[str]]) -> pd.DataFrame:
    """Return var, by symbol; where several genes have one symbol, by id."""
    names = pd.Series(symbols, dtype=object)
    twice = names.duplicated(keep=False) | (names == "")
    index = pd.Index(names.where(~twice, pd.Series(ids, dtype=object)))
    categories = {name: pd.Categorical(values) for name, values in columns.items()}
    return pd.DataFrame({"gene_ids": ids, "gene_symbols": symbols, **categories}, index=index)


def _texts(values: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values[:]]


def _beside(folder: Path, prefix: str, names: tuple[str, ...]) -> Path:
    for name in names:
        for ending in ("", ".gz"):
            path = folder / f"{prefix}{name}{ending}"
            if path.is_file():
                return path
    raise ValueError(
        f"{folder} holds a matrix.mtx, and no {prefix}{names[0]} (or {names[0]}.gz) beside it."
    )


def _refuse_outer(folder: Path) -> None:
    for inner in ("filtered_feature_bc_matrix", "filtered_feature_bc_matrix.h5"):
        for path in (folder / inner, folder / "outs" / inner):
            if path.exists():
                raise ValueError(f"{folder} is a folder of Cell Ranger's: name {path} in it.")


def _read_matrix(files: MatrixFolder) -> tuple[Any, pd.DataFrame, pd.DataFrame]:
    from scipy.io import mmread

    try:
        with warnings.catch_warnings():
            # Of the kind of sparse matrix that later versions of scipy return.
            warnings.simplefilter("ignore", DeprecationWarning)
            counts = sp.csr_matrix(mmread(files.matrix).T, dtype=np.float32)
        barcodes = _table(files.barcodes)
        features = _table(files.features)
    except (ValueError, OSError, EOFError, AttributeError) as error:
        raise ValueError(
            f"{files.matrix.parent} cannot be read as a Cell Ranger folder: {error}"
        ) from error
    if counts.shape != (len(barcodes), len(features)):
        raise ValueError(
            f"{files.matrix} has {counts.shape[1]} genes x {counts.shape[0]} cells, but "
            f"{files.features.name} has {len(features)} lines and {files.barcodes.name} "
            f"{len(barcodes)}."
        )
    columns = {"feature_types": features[2].tolist()} if 2 in features else {}
    symbols = features[1 if 1 in features else 0].tolist()
    var = _named(features[0].tolist(), symbols, columns)
    return counts, pd.DataFrame(index=barcodes[0].tolist()), var


def _table(path: Path) -> pd.DataFrame:
    """Read a file of names; a gene may well be called NA."""
    return pd.read_csv(path, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)
