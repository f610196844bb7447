"""Files of cells as people have them: different genes, names and forms of storage."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

FORMS = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.asarray}


@pytest.fixture(scope="session")
def write_cells(make_counts):
    """Return a writer of files of simulated cells; it returns the AnnData it wrote."""
    import anndata

    def write(
        path,
        genes=None,
        n_cells=50,
        seed=0,
        form="csr",
        place="X",
        counts=None,
        obs=None,
        **options,
    ):
        if counts is None:
            counts = make_counts(n_cells, 40 if genes is None else len(genes), seed)
        n_cells = len(counts)
        names = [f"FAKE{i}" for i in range(counts.shape[1])] if genes is None else list(genes)
        frame = pd.DataFrame(
            {
                "donor": pd.Categorical([f"{path.stem}_{i % 5}" for i in range(n_cells)]),
                "kind": pd.Categorical([f"type{i % 3}" for i in range(n_cells)]),
            },
            index=[f"{path.stem}_{i}" for i in range(n_cells)],
        )
        for name, values in (obs or {}).items():
            frame[name] = values
        adata = anndata.AnnData(FORMS[form](counts), frame, pd.DataFrame(index=names))
        if place == "raw":
            adata.raw = adata.copy()
            adata.X = sp.csr_matrix(np.log1p(counts) * 0.5)
        elif place != "X":
            adata.layers[place] = adata.X.copy()
            adata.X = sp.csr_matrix(np.log1p(counts) * 0.5)
        (adata.write_zarr if path.suffix == ".zarr" else adata.write_h5ad)(path, **options)
        adata.uns["counts"] = counts
        return adata

    return write


@pytest.fixture(scope="session")
def atlas(tmp_path_factory, write_cells):
    """Return six files of every form with different genes, and their counts over all genes."""
    folder = tmp_path_factory.mktemp("atlas")
    rng = np.random.default_rng(0)
    universe = np.array([f"FAKE{i}" for i in range(60)])
    kinds = [
        ("a.h5ad", {"form": "csr"}),
        ("b.h5ad", {"form": "csc", "place": "raw"}),
        ("c.h5ad", {"form": "dense"}),
        ("d.zarr", {"form": "csr"}),
        ("e.h5ad", {"form": "csr", "compression": "gzip"}),
        ("f.zarr", {"form": "dense", "place": "raw"}),
    ]
    paths, tables = [], []
    for number, (name, options) in enumerate(kinds):
        genes = rng.permutation(universe)[:45]
        n_cells = 40 + 13 * number
        adata = write_cells(folder / name, genes, n_cells, seed=number, **options)
        paths.append(folder / name)
        tables.append(pd.DataFrame(adata.uns["counts"], adata.obs_names, genes))
    return paths, pd.concat(tables).fillna(0)
