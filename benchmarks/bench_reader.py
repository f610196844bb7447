"""Measure how fast, how evenly and in how much memory cells of many files are read.

    python benchmarks/bench_reader.py --cells 20000 --files 4
    python benchmarks/bench_reader.py --cells 1000000 --files 20 --folder /data/atlas

An atlas is simulated: files with different genes in different orders, about 1,500 expressed genes a
cell, cells of one donor beside each other. It stays in the folder and is used again. Each reader is
measured in a process of its own, for its memory; the first pass warms up and is not counted.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numba import njit

N_GENES, N_GENES_OF_FILE, N_EXPRESSED, N_DONORS = 30_000, 22_000, 1_500, 10
BATCH_SIZE = 256


@njit(cache=True)
def draw(n_cells, ends, n_expressed, rng):  # type: ignore[no-untyped-def]
    """Draw cells: which genes, by their frequency, and geometric counts."""
    n_genes = len(ends)
    indptr = np.zeros(n_cells + 1, np.int64)
    indices = np.empty(2 * n_cells * n_expressed, np.int32)
    data = np.empty(2 * n_cells * n_expressed, np.float32)
    seen = np.full(n_genes, -1)
    n = 0
    for cell in range(n_cells):
        wanted = int(n_expressed * rng.uniform(0.5, 1.5))
        found = 0
        while found < wanted:
            gene = np.searchsorted(ends, rng.random())
            if seen[gene] != cell:
                seen[gene] = cell
                found += 1
        for gene in range(n_genes):
            if seen[gene] == cell:
                indices[n] = gene
                data[n] = rng.geometric(0.55)
                n += 1
        indptr[cell + 1] = n
    return indptr, indices[:n], data[:n]


def make_atlas(folder: Path, n_cells: int, n_files: int) -> list[Path]:
    """Write the files that are not there yet."""
    import anndata
    import pandas as pd
    import scipy.sparse as sp

    folder.mkdir(parents=True, exist_ok=True)
    names = np.array([f"GENE{i:05d}" for i in range(N_GENES)])
    frequency = np.random.default_rng(0).gamma(0.5, 1.0, N_GENES) + 0.05
    paths = []
    for number in range(n_files):
        own = n_cells // n_files
        path = folder / f"cells_{n_cells}_{n_files}_{number}.h5ad"
        paths.append(path)
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        genes = rng.permutation(N_GENES)[:N_GENES_OF_FILE]
        ends = np.cumsum(frequency[genes]) / frequency[genes].sum()
        indptr, indices, data = draw(own, ends, N_EXPRESSED, rng)
        donors = np.arange(own) * N_DONORS // own
        obs = pd.DataFrame(
            {"donor": pd.Categorical([f"{number}_{donor}" for donor in donors])},
            index=[f"{number}_{cell}" for cell in range(own)],
        )
        matrix = sp.csr_matrix((data, indices, indptr), (own, N_GENES_OF_FILE))
        draft = path.with_suffix(".tmp")
        anndata.AnnData(matrix, obs, pd.DataFrame(index=names[genes])).write_h5ad(draft)
        draft.rename(path)
    return paths


def dispersion(batches: list[np.ndarray], groups: np.ndarray) -> float:
    """Variance of the groups' numbers in batches, relative to that of a full shuffle."""
    n_cells, n = len(groups), np.mean([len(cells) for cells in batches])
    ratios = []
    for group in np.unique(groups):
        found = np.array([(groups[cells] == group).sum() for cells in batches])
        share = (groups == group).mean()
        ratios.append(found.var() / (n * share * (1 - share) * (n_cells - n) / (n_cells - 1)))
    return float(np.mean(ratios))


def timed(batches, size) -> tuple[float, float, int]:  # type: ignore[no-untyped-def]
    """Walk through batches; wall clock, processor time and number of cells."""
    n_cells, clock, work = 0, time.perf_counter(), time.process_time()
    for batch in batches:
        n_cells += size(batch)
    return time.perf_counter() - clock, time.process_time() - work, n_cells


def measure_scenc(cells, context: int, passes: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Measure a datamodule of this package, tokens and all."""
    from scenc.data import Tokenizer

    cells.tokenizer = Tokenizer(context=context, mask_fraction=0.5)
    loader = cells.train_dataloader()
    seen: list[np.ndarray] = []

    def size(batch) -> int:  # type: ignore[no-untyped-def]
        seen.append(batch.cells.numpy())
        return batch.n_cells

    timed(loader, size)
    speeds = []
    for _ in range(passes):
        seen.clear()
        seconds, work, n_cells = timed(loader, size)
        speeds.append((n_cells / seconds, n_cells / work))
    donors = cells.column("donor").codes.astype(int)
    files = np.array([name.split("_")[0] for name in cells.column("donor").categories])[donors]
    chosen = np.flatnonzero(cells.roles == 0)
    place = np.zeros(len(cells.roles), int)
    place[chosen] = np.arange(len(chosen))
    batches = [place[batch] for batch in seen]
    return {
        **_best(speeds),
        "file variance": dispersion(batches, files[chosen]),
        "donor variance": dispersion(batches, donors[chosen]),
    }


def measure_files(paths: list[Path], context: int, passes: int, workers: int) -> dict[str, float]:
    from scenc.data import CellFiles

    cells = CellFiles(
        paths,
        batch_key="donor",
        validation_size=0,
        batch_size=BATCH_SIZE,
        check="sample",
        num_workers=workers,
        progress=False,
    )
    return measure_scenc(cells, context, passes)


def measure_store(paths: list[Path], context: int, passes: int, workers: int) -> dict[str, float]:
    from scenc.data import CellStore

    store = CellStore(_store_of(paths), batch_size=BATCH_SIZE, num_workers=workers)
    return measure_scenc(store, context, passes)


def measure_annbatch(
    paths: list[Path], context: int, passes: int, workers: int
) -> dict[str, float]:
    """Measure annbatch alone on the same store: sparse matrices, no tokens."""
    import anndata
    import zarr
    from annbatch import Loader

    if _has("zarrs"):
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    group = zarr.open_group(_store_of(paths) / "train", mode="r")
    loader = Loader(
        batch_size=BATCH_SIZE, chunk_size=128, preload_nchunks=128, shuffle=True,
        preload_to_gpu=False, to=None,
    )  # fmt: skip
    loader.add_datasets(
        [anndata.io.sparse_dataset(group[key]["X"]) for key in sorted(group.group_keys())]
    )
    return _passes(loader, lambda batch: batch["X"].shape[0], passes)


def measure_scvi(paths: list[Path], context: int, passes: int, workers: int) -> dict[str, float]:
    """Measure scvi-tools' loader on all files in memory: dense matrices, no tokens."""
    import anndata
    import scvi

    adata = anndata.concat([anndata.read_h5ad(path) for path in paths], join="outer")
    adata.X = adata.X.tocsr()
    scvi.model.SCVI.setup_anndata(adata)
    manager = scvi.model.SCVI._get_most_recent_anndata_manager(adata, required=True)
    loader = scvi.dataloaders.AnnDataLoader(manager, shuffle=True, batch_size=BATCH_SIZE)
    return _passes(loader, lambda batch: batch["X"].shape[0], passes)


READERS = {
    "CellFiles": measure_files,
    "CellStore": measure_store,
    "annbatch alone": measure_annbatch,
    "scvi AnnDataLoader": measure_scvi,
}


def _passes(loader, size, passes: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    timed(loader, size)
    speeds = []
    for _ in range(passes):
        seconds, work, n_cells = timed(loader, size)
        speeds.append((n_cells / seconds, n_cells / work))
    return _best(speeds)


def _best(speeds: list[tuple[float, float]]) -> dict[str, float]:
    clock, work = (np.median(values) for values in zip(*speeds, strict=True))
    return {"cells/s": float(clock), "cells/processor s": float(work)}


def _store_of(paths: list[Path]) -> Path:
    return paths[0].with_name(paths[0].stem.rsplit("_", 1)[0] + ".zarr")


def _peak() -> float:
    """Return the process's largest memory so far; resource's would be its parent's, too."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1e6


def _has(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path("bench-atlas"))
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--readers", nargs="+", default=list(READERS), choices=list(READERS))
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    paths = make_atlas(args.folder, args.cells, args.files)
    if args.alone:
        found = READERS[args.readers[0]](paths, args.context, args.passes, args.workers)
        found["peak GB"] = _peak()
        print(json.dumps(found))
        return
    if any("Store" in name or "annbatch" in name for name in args.readers):
        _build(paths)
    for name in args.readers:
        command = [sys.executable, __file__, *sys.argv[1:], "--readers", name, "--alone"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{name}: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        found = json.loads(done.stdout.strip().splitlines()[-1])
        text = ", ".join(f"{value:,.4g} {what}" for what, value in found.items())
        print(f"{name}: {text}", flush=True)


def _build(paths: list[Path]) -> None:
    from scenc.data import CellFiles, build_store

    out = _store_of(paths)
    if out.exists() or not _has("annbatch"):
        return
    start = time.perf_counter()
    cells = CellFiles(paths, batch_key="donor", validation_size=0, check="sample", progress=False)
    build_store(cells, out, progress=False)
    print(f"store built: {cells.n_obs / (time.perf_counter() - start):,.0f} cells/s", flush=True)


if __name__ == "__main__":
    main()
