"""The arguments of `CellFiles`, read and checked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scenc._arguments import choose
from scenc._distributed import local_rank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


def paths(files: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return the files by name, each once.

    Raises
    ------
    ValueError
        There are none, or one stands twice.
    TypeError
        They are no paths.
    """
    # Iterating over a table would give the names of its columns.
    several = isinstance(files, Iterable) and not hasattr(files, "columns")
    given: list[Any] = [files] if isinstance(files, str | os.PathLike) or not several else [*files]
    names = []
    for path in given:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(
                f"files must be paths or addresses of files of cells, got {type(path).__name__}. "
                "(Data in memory: scenc.Model.setup_anndata(adata), then scenc.Model(adata).)"
            )
        names.append(os.fspath(path))
    if not names:
        raise ValueError("files is empty: name at least one .h5ad file or zarr store.")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"{min(twice)} is named more than once in files.")
    return names


def layers_of(layer: str | Mapping[str, str] | None, files: Sequence[str]) -> list[str | None]:
    """Return the layer of each file.

    Raises
    ------
    ValueError
        A layer is named for a file that is none of them.
    """
    if layer is None or isinstance(layer, str):
        return [layer] * len(files)
    named = {os.fspath(path): of_file for path, of_file in layer.items()}
    if strange := named.keys() - set(files):
        raise ValueError(
            f"layer names {min(strange)!r}, which is none of the files (like {files[0]!r})."
        )
    return [named.get(path) for path in files]


def lists(only: Mapping[str, Any] | None) -> dict[str, list[Any]]:
    """Return the wanted values of each column as a list."""
    return {
        k: [v] if isinstance(v, str) or not np.iterable(v) else list(v)
        for k, v in (only or {}).items()
    }


def thorough(check: str) -> bool:
    """Whether to look at every value: one process of a computer is enough for that."""
    return check == "all" and local_rank() == 0


def file_weights(
    weights: Literal["equal", "sqrt"] | Sequence[float] | None, n_cells: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Turn weights of files into weights of their cells.

    Raises
    ------
    ValueError
        They are not one number of 0 or more per file, or leave no cell.
    """
    if weights is None:
        return None
    if isinstance(weights, str):
        power = {"equal": -1.0, "sqrt": -0.5}[choose(weights, ("equal", "sqrt"), "weights")]
        return np.where(n_cells > 0, np.maximum(n_cells, 1) ** power, 0.0)
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != n_cells.shape or not (np.isfinite(given) & (given >= 0)).all():
        raise ValueError(
            f"weights must be {len(n_cells)} numbers of 0 or more, one per file, got {weights!r}."
        )
    if not (given * n_cells).sum() > 0:
        raise ValueError("weights leave no cell to train on.")
    return given


def require_sizes(
    batch_size: int | None,
    chunk_size: int,
    buffer_size: int,
    validation_size: float,
    test_size: float,
) -> None:
    """Refuse sizes that are out of range.

    Raises
    ------
    ValueError
        The message names the argument.
    """
    named = {"batch_size": batch_size, "chunk_size": chunk_size, "buffer_size": buffer_size}
    for name, value in named.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    shares = {"validation_size": validation_size, "test_size": test_size}
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"{name} must lie in [0, 1), got {share}.")
    if validation_size + test_size >= 1:
        raise ValueError("validation_size and test_size leave no cell to train on.")
