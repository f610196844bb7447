"""Files of simulated cells, as many as wanted, made on the fly.

Files have different genes in different orders, about 1,500 expressed genes a cell, and cells of one
donor beside each other.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

N_GENES, N_GENES_OF_FILE, N_EXPRESSED, N_DONORS = 30_000, 22_000, 1_500, 10
# Random numbers look up a gene, and a count, in tables of so many entries.
_N_SHARES, _N_CHANCES = 2**18, 2**12


def make_atlas(folder: Path, n_cells: int, n_files: int) -> list[Path]:
    """Write the files that are not there yet, two at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"cells_{n_cells}_{n_files}_{n}.h5ad" for n in range(n_files)]
    wanted = [number for number, path in enumerate(paths) if not path.exists()]
    if wanted:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            make = partial(make_file, n_cells=n_cells // n_files)
            list(pool.map(make, [paths[number] for number in wanted], wanted))
    return paths


def make_file(path: Path, number: int, n_cells: int) -> None:
    """Write one file, as anndata does by default: by rows, without compression."""
    import anndata
    import pandas as pd
    import scipy.sparse as sp

    rng = np.random.default_rng(number)
    frequency = np.random.default_rng(0).gamma(0.5, 1.0, N_GENES) + 0.05
    genes = rng.permutation(N_GENES)[:N_GENES_OF_FILE]
    wanted = (N_EXPRESSED * rng.uniform(0.5, 1.5, n_cells)).astype(np.int64)
    indptr = np.concatenate([[0], np.cumsum(wanted)])
    indices, data = _draw(indptr, _shares(frequency[genes]), _counts(), np.uint64(number))
    donors = np.arange(n_cells) * N_DONORS // n_cells
    obs = pd.DataFrame(
        {"donor": pd.Categorical([f"{number}_{donor}" for donor in donors])},
        index=[f"{number}_{cell}" for cell in range(n_cells)],
    )
    var = pd.DataFrame(index=[f"GENE{gene:05d}" for gene in genes])
    matrix = sp.csr_matrix((data, indices, indptr), (n_cells, N_GENES_OF_FILE))
    draft = path.with_suffix(".tmp")
    anndata.AnnData(matrix, obs, var).write_h5ad(draft)
    draft.rename(path)


def _shares(frequency: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return genes, each in as many places as it is frequent."""
    ends = np.cumsum(frequency) / frequency.sum()
    places = (np.arange(_N_SHARES) + 0.5) / _N_SHARES
    return np.searchsorted(ends, places).astype(np.int32)


def _counts() -> NDArray[np.float32]:
    """Return counts, geometric with chance 0.55, each in as many places as it is frequent."""
    places = (np.arange(_N_CHANCES) + 0.5) / _N_CHANCES
    return np.ceil(np.log(1 - places) / np.log(0.45)).astype(np.float32)


@njit(cache=True)
def _draw(indptr, shares, counts, seed):  # type: ignore[no-untyped-def]
    """Draw each cell's genes, by their frequency and without repeating, and their counts."""
    indices = np.empty(indptr[-1], np.int32)
    data = np.empty(indptr[-1], np.float32)
    owner = np.full(shares[-1] + 1, -1, np.int32)
    count = np.empty(len(owner), np.float32)
    # An ordinary multiplicative generator: upper bits are good enough for a simulation.
    state = np.uint64(2) * seed + np.uint64(1)
    for cell in range(len(indptr) - 1):
        found, wanted = 0, indptr[cell + 1] - indptr[cell]
        while found < wanted:
            state *= np.uint64(0xF1357AEA2E62A9C5)
            gene = shares[state >> np.uint64(46)]
            if owner[gene] != cell:
                owner[gene] = cell
                count[gene] = counts[(state >> np.uint64(30)) & np.uint64(len(counts) - 1)]
                found += 1
        n = indptr[cell]
        for gene in range(len(owner)):
            if owner[gene] == cell:
                indices[n] = gene
                data[n] = count[gene]
                n += 1
    return indices, data
