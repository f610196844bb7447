"""Measure how fast, how evenly and in how much memory cells of many files are read.

    python benchmarks/bench_reader.py --cells 100000 --files 20
    python benchmarks/bench_reader.py --cells 1000000 --files 20 --folder /data/atlas \
        --measures CellFiles training embedding

The atlas (`simulated_atlas.py`) stays in the folder and is used again. Everything is measured in a
process of its own, for its memory. Of readers, the first pass warms up and is not counted. Training
and embedding are those of a small network, by `Model.train` and `Model.embed_files`; ``waiting``
trains a few steps at the paper's size.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from simulated_atlas import make_atlas

BATCH_SIZE = 256
# A network so small that a pass over many cells takes minutes.
TINY = {
    "expression_encoder": "raw",
    "d_model": 16,
    "n_layers": 1,
    "n_heads": 2,
    "d_feedforward": 16,
    "context": 32,
}


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


def measure_scenc(cells, args) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Measure a datamodule of this package, tokens and all."""
    from scenc.data import Tokenizer

    cells.tokenizer = Tokenizer(context=args.context, mask_fraction=0.5)
    loader = cells.train_dataloader()
    seen: list[np.ndarray] = []

    def size(batch) -> int:  # type: ignore[no-untyped-def]
        seen.append(batch.cells.numpy())
        return batch.n_cells

    speeds = _passes(loader, size, args.passes, seen.clear)
    donors = cells.column("donor").codes.astype(int)
    files = np.array([name.split("_")[0] for name in cells.column("donor").categories])[donors]
    chosen = np.flatnonzero(cells.roles == 0)
    place = np.zeros(len(cells.roles), int)
    place[chosen] = np.arange(len(chosen))
    batches = [place[batch] for batch in seen]
    return {
        **speeds,
        "file variance": dispersion(batches, files[chosen]),
        "donor variance": dispersion(batches, donors[chosen]),
    }


def files_of(paths: list[Path], args, **settings):  # type: ignore[no-untyped-def]
    from scenc.data import CellFiles

    given = {"batch_size": BATCH_SIZE, "validation_size": 0, "num_workers": args.workers}
    return CellFiles(
        paths, batch_key="donor", check="sample", progress=False, **{**given, **settings}
    )


def measure_files(paths: list[Path], args) -> dict[str, float]:  # type: ignore[no-untyped-def]
    return measure_scenc(files_of(paths, args), args)


def measure_store(paths: list[Path], args) -> dict[str, float]:  # type: ignore[no-untyped-def]
    from scenc.data import CellStore

    store = CellStore(_store_of(paths), batch_size=BATCH_SIZE, num_workers=args.workers)
    return measure_scenc(store, args)


def measure_annbatch(paths: list[Path], args) -> dict[str, float]:  # type: ignore[no-untyped-def]
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
    return _passes(loader, lambda batch: batch["X"].shape[0], args.passes)


def measure_scvi(paths: list[Path], args) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Measure scvi-tools' loader on all files in memory: dense matrices, no tokens."""
    import anndata
    import scvi

    adata = anndata.concat([anndata.read_h5ad(path) for path in paths], join="outer")
    adata.X = adata.X.tocsr()
    scvi.model.SCVI.setup_anndata(adata)
    manager = scvi.model.SCVI._get_most_recent_anndata_manager(adata, required=True)
    loader = scvi.dataloaders.AnnDataLoader(manager, shuffle=True, batch_size=BATCH_SIZE)
    return _passes(loader, lambda batch: batch["X"].shape[0], args.passes)


def measure_memory(paths: list[Path], args) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Measure the same cells in memory, from an AnnData: tokens as the model trains on them."""
    import anndata

    from scenc.data import ShuffledRequests, TokenDataset, Tokenizer, open_rows

    adata = anndata.concat([anndata.read_h5ad(path) for path in paths], join="outer")
    counts = adata.X.tocsr()
    tokenizer = Tokenizer(context=args.context, mask_fraction=0.5)
    dataset = TokenDataset(open_rows(counts), np.arange(counts.shape[1]), tokenizer)
    loader = dataset.loader(ShuffledRequests(np.arange(counts.shape[0]), BATCH_SIZE))
    return _passes(loader, lambda batch: batch.n_cells, args.passes)


def measure_training(paths: list[Path], args) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Train a small network on the files, one pass or so many cells of it."""
    return _train(files_of(paths, args, validation_size=0.001), BATCH_SIZE, args.visits, **TINY)


def measure_waiting(paths: list[Path], args) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Train a few steps at the paper's size, with batches that a computer without GPU can hold."""
    cells = files_of(paths, args, validation_size=0.001)
    return _train(cells, 4, 24, preset="paper")


def measure_embedding(paths: list[Path], args) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Embed the files by a small network; its weights are as they were drawn."""
    import scenc

    model = scenc.Model(datamodule=files_of(paths, args), objective="masked", **TINY)
    model.is_trained_ = True
    cells = files_of(paths, args)
    with TemporaryDirectory(dir=paths[0].parent) as out:
        began = time.perf_counter()
        model.embed_files(cells, out, progress=False)
        return {"cells/s": cells.n_obs / (time.perf_counter() - began)}


def _train(cells, batch_size: int, visits: int, **settings) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Train a model; how many cells a second, and the share of the time spent waiting for data."""
    from lightning.pytorch import Callback

    import scenc
    from scenc.data import BatchLoader

    class Clock(Callback):
        """Stop after so many cells; time begins at the first step's end, which warms up."""

        began = ended = waited = 0.0
        n_cells = 0

        def on_train_batch_end(self, trainer, *_) -> None:  # type: ignore[no-untyped-def]
            now, loader = time.perf_counter(), trainer.train_dataloader
            assert isinstance(loader, BatchLoader)
            if not self.began:
                self.began, self.waited = now, -loader.waited
                return
            self.ended = now
            self.n_cells += batch_size
            if visits and self.n_cells >= visits:
                trainer.should_stop = True

        def on_train_epoch_end(self, trainer, *_) -> None:  # type: ignore[no-untyped-def]
            self.waited += trainer.train_dataloader.waited

    clock = Clock()
    model = scenc.Model(datamodule=cells, **{"objective": "masked", **settings})
    model.train(
        max_epochs=1, batch_size=batch_size, accumulate_grad_batches=1, callbacks=[clock],
        accelerator="cpu", precision="32-true", enable_progress_bar=False,
    )  # fmt: skip
    seconds = clock.ended - clock.began
    return {
        "cells": clock.n_cells,
        "cells/s": clock.n_cells / seconds,
        "share of waiting": clock.waited / seconds,
    }


MEASURES = {
    "CellFiles": measure_files,
    "CellStore": measure_store,
    "annbatch alone": measure_annbatch,
    "scvi AnnDataLoader": measure_scvi,
    "AnnData in memory": measure_memory,
    "training": measure_training,
    "waiting": measure_waiting,
    "embedding": measure_embedding,
}


RATIOS = (
    ("CellStore", "annbatch alone"),
    ("CellFiles", "scvi AnnDataLoader"),
    ("CellStore", "scvi AnnDataLoader"),
    ("AnnData in memory", "scvi AnnDataLoader"),
)


def _passes(loader, size, passes: int, before=lambda: None) -> dict[str, float]:  # type: ignore[no-untyped-def]
    timed(loader, size)
    speeds = []
    for _ in range(passes):
        before()
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
    parser.add_argument("--visits", type=int, default=0, help="cells to train on; 0: all")
    parser.add_argument("--measures", nargs="+", default=list(MEASURES), choices=list(MEASURES))
    parser.add_argument("--results", type=Path, help="file to add a line of JSON to for each")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    paths = make_atlas(args.folder, args.cells, args.files)
    if args.alone:
        found = MEASURES[args.measures[0]](paths, args)
        found["peak GB"] = _peak()
        print(json.dumps(found))
        return
    if any("Store" in name or "annbatch" in name for name in args.measures):
        _build(paths)
    speeds = {}
    for name in args.measures:
        command = [sys.executable, __file__, *sys.argv[1:], "--measures", name, "--alone"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{name}: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        found = json.loads(done.stdout.strip().splitlines()[-1])
        speeds[name] = found["cells/s"]
        text = ", ".join(f"{value:,.4g} {what}" for what, value in found.items())
        print(f"{name}: {text}", flush=True)
        if args.results:
            line = {"measure": name, "of": args.cells, "files": args.files, **found}
            with args.results.open("a") as file:
                file.write(json.dumps(line) + "\n")
    for name, other in RATIOS:
        if name in speeds and other in speeds:
            print(f"{name} / {other}: {speeds[name] / speeds[other]:.2f}")


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
