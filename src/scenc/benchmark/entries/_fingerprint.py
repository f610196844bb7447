"""SHA-256 of settings, data and versions: the keys under which results are stored."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from numpy.typing import NDArray

    from scenc.data.counts import Csr

FORMAT = 4
"""Raise it when the files or the computation of a job change within one version of scenc."""

_PACKAGES = ("scenc", "torch", "scvi-tools", "scib-metrics", "anndata", "numpy", "scanpy",
             "scikit-learn", "igraph")  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    return {name: version(name) for name in _PACKAGES}


def digest(value: Any) -> str:
    """Return the SHA-256 of a plain value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def counts_fingerprint(matrix: Csr, genes: Iterable[str]) -> str:
    """Return the SHA-256 of counts in canonical CSR form, and of their gene names."""
    sha = hashlib.sha256()
    _add_text(sha, genes)
    sha.update(np.asarray(matrix.shape, "<i8").tobytes())
    for start in range(0, matrix.shape[0], 4096):
        block = matrix[start : start + 4096]
        _add(sha, block.indptr, "<i8")
        _add(sha, block.indices, "<i8")
        _add(sha, block.data, "<f4")
    return sha.hexdigest()


def groups_fingerprint(obs: pd.DataFrame) -> str:
    """Return the SHA-256 of categorical columns; a missing value belongs to no category."""
    sha = hashlib.sha256()
    for name in sorted(obs.columns):
        column = obs[name].cat.remove_unused_categories()
        order = np.argsort(column.cat.categories.astype(str).to_numpy(dtype=object))
        rank = np.append(np.argsort(order), -1)
        _add_text(sha, [name, *column.cat.categories.astype(str)[order]])
        _add(sha, rank[column.cat.codes.to_numpy()], "<i8")
    return sha.hexdigest()


def vectors_fingerprint(matrix: NDArray[Any], names: Iterable[str]) -> str:
    """Return the SHA-256 of gene vectors and the names of their genes."""
    sha = hashlib.sha256()
    _add_text(sha, names)
    _add(sha, matrix, "<f4")
    return sha.hexdigest()


def _add(sha: Any, values: NDArray[Any], kind: str) -> None:
    array = np.ascontiguousarray(values, dtype=kind)
    sha.update(np.asarray(array.shape, "<i8").tobytes())
    sha.update(array.tobytes())


def _add_text(sha: Any, texts: Iterable[str]) -> None:
    encoded = json.dumps(list(texts)).encode()
    sha.update(len(encoded).to_bytes(8, "little"))
    sha.update(encoded)
