"""Print a SHA-256 of all that scenc computes from a seed, to compare two versions of the code.

A change that only moves, renames or rewords code leaves every line as it was. Run it before and
after on one machine (rounding differs between processors) and compare:

    OMP_NUM_THREADS=1 python tests/hash_outputs.py FOLDER > before.txt
    ... the change ...
    OMP_NUM_THREADS=1 python tests/hash_outputs.py FOLDER > after.txt
    diff before.txt after.txt

Names of parts after the folder (tokens, encodings, real, files, benchmark) print these only.

FOLDER keeps a benchmark's results. The second run must use those of the first: the last line says
how many jobs were computed anew, and how many results of an earlier run were used.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import warnings
from itertools import product
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

import scenc
from scenc.benchmark import PCA, SCVI, Benchmark, Encoding, EvaluationSet
from scenc.data import CellFiles, CellStore, Tokenizer, build_store

TINY = {
    "d_model": 16,
    "n_layers": 2,
    "n_heads": 2,
    "d_feedforward": 32,
    "context": 20,
    "dropout": 0.1,
    "expression_hidden": 16,
}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
ENCODERS = list(product(("learned", "protein"), ("raw", "hard", "log", "soft")))


def digest(*values: object) -> str:
    """Return the first characters of the SHA-256 of arrays, tables, texts and what holds them."""
    sha = hashlib.sha256()
    for value in values:
        _add(sha, value)
    return sha.hexdigest()[:16]


def _add(sha, value):
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            _add(sha, str(key))
            _add(sha, value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            _add(sha, item)
    elif isinstance(value, pd.DataFrame | pd.Series):
        sha.update(value.to_csv(float_format="%.17g").encode())
    elif sp.issparse(value):
        value = value.tocsr()
        _add(sha, [value.indptr.astype("i8"), value.indices.astype("i8"), value.data])
    elif isinstance(value, np.ndarray) and value.dtype != object:
        sha.update(str((value.shape, value.dtype.str)).encode())
        sha.update(np.ascontiguousarray(value).tobytes())
    else:
        sha.update(str(value).encode())


def show(name: str, *values: object) -> None:
    """Print a line."""
    print(f"{digest(*values)}  {name}", flush=True)


def counts(n_cells=120, n_genes=60, seed=0):
    """Draw counts of three kinds of cells, none empty."""
    rng = np.random.default_rng(seed)
    profiles = rng.gamma(0.6, 2.0, (3, n_genes))
    depth = rng.uniform(0.1, 1.5, (n_cells, 1))
    drawn = rng.poisson(profiles[np.arange(n_cells) % 3] * depth).astype(np.float32)
    drawn[:, 0] += drawn.sum(axis=1) == 0
    return sp.csr_matrix(drawn)


def cells(n_cells=120, n_genes=60, seed=0):
    """Return an AnnData of such cells, with batches and types."""
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical([f"donor{i % 2}" for i in range(n_cells)]),
            "cell_type": pd.Categorical([f"type{i % 3}" for i in range(n_cells)]),
        },
        index=[f"cell{i}" for i in range(n_cells)],
    )
    var = pd.DataFrame(index=[f"FAKE{i}" for i in range(n_genes)])
    return ad.AnnData(counts(n_cells, n_genes, seed), obs, var)


def model_of(adata, **settings):
    """Make a tiny model."""
    scenc.Model.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    if settings.get("gene_encoder") == "protein":
        vectors = np.random.default_rng(1).normal(size=(adata.n_vars, 8)).astype(np.float32)
        vectors[::10] = np.nan
        settings["protein_embeddings"] = pd.DataFrame(vectors, index=adata.var_names)
    return scenc.Model(adata, **{**TINY, **settings})


def show_model(name, model, adata=None):
    """Hash all that a trained model holds and gives."""
    show(f"{name}: weights", model.module.state_dict())
    show(f"{name}: history", model.history)
    show(f"{name}: latent", model.get_latent_representation(adata, key_added=None))
    if model.config.objective == "masked":
        show(f"{name}: errors", model.get_reconstruction_error(adata))
        genes = list(model.vocabulary[:3])
        show(f"{name}: predicted", model.predict_expression(adata, genes=genes))
    show(f"{name}: genes", model.get_gene_embeddings())


def tokens():
    """Token batches under all settings."""
    table, rows, genes = counts(), np.arange(120)[::-1].copy(), np.arange(60)
    part = np.where(genes % 7 == 0, -1, np.where(genes % 5 == 0, -2, genes))
    for context, mask, bins, draw, totals in product(
        (None, 20), (0.0, 0.5), (0, 10), ("random", "top"), (False, True)
    ):
        tokenizer = Tokenizer(context, 1e4, mask, bins, draw, totals)
        for name, gene_map in (("all", genes), ("some", part)):
            batch = tokenizer(table, rows, gene_map, 7)
            show(
                f"tokens {context} {mask} {bins} {draw} {totals} {name}",
                batch.genes, batch.values(), batch.targets(), batch.lengths, batch.n_masked,
                batch.cells,
            )  # fmt: skip


def encodings():
    """The eight encodings, untrained and trained by masked expression."""
    for genes, expression in ENCODERS:
        adata = cells()
        model = model_of(
            adata, gene_encoder=genes, expression_encoder=expression, objective="masked"
        )
        show(f"{genes} {expression}: start", model.module.state_dict())
        model.train(max_epochs=2, batch_size=32, **QUIET)
        show_model(f"{genes} {expression}", model)
    adata = cells()
    model = model_of(
        adata, expression_encoder="hard", hard_edges="global", objective="masked", n_top_genes=30
    )
    model.train(max_epochs=2, batch_size=32, **QUIET)
    show_model("global edges", model)


def real():
    """The default on real cells, with one batch and with two."""
    adata = scenc.datasets.pbmc68k()
    adata.obs["half"] = pd.Categorical(np.where(np.arange(adata.n_obs) % 2, "odd", "even"))
    for key in (None, "half"):
        scenc.Model.setup_anndata(adata, batch_key=key)
        model = scenc.Model(adata, n_top_genes=400, d_model=32, n_heads=2)
        model.train(cell_visits=2_000, **QUIET)
        show_model(f"default, batch_key={key}", model)
    z = model.get_latent_representation(key_added=None)
    labels = adata.obs["cell_type"]
    found = scenc.metrics.integration(z, adata.obs["half"], labels)
    names = (*scenc.metrics.BATCH_CORRECTION, *scenc.metrics.BIO_PRESERVATION)
    show("metrics", [getattr(found, name) for name in names])
    show("knn", scenc.metrics.knn_classification(z, labels, min_cells=10).per_class)
    show("genes", str(scenc.genes.harmonize(adata.var_names)))
    show("neighbour genes", str(scenc.genes.match(adata.var_names, adata.var_names[::-1])))


def files(folder):
    """Training and embedding from files and from a store."""
    paths = []
    for number, (rows, form) in enumerate([(70, "csr"), (55, "csc"), (90, "dense")]):
        adata = cells(rows, 60, seed=number)[:, np.random.default_rng(number).permutation(60)[:50]]
        adata = adata.copy()
        adata.obs_names = [f"{number}_{name}" for name in adata.obs_names]
        adata.obs["batch"] = pd.Categorical([f"batch{number}"] * rows)
        adata.X = {"csr": adata.X, "csc": adata.X.tocsc(), "dense": adata.X.toarray()}[form]
        paths.append(folder / f"{form}.h5ad")
        adata.write_h5ad(paths[-1])
    read = {"batch_key": "batch", "labels_key": "cell_type", "seed": 3}
    many = CellFiles(paths, **read, buffer_size=64, progress=False)
    build_store(paths, folder / "store.zarr", **read, progress=False)
    stored = CellStore(folder / "store.zarr", buffer_size=64)
    for name, module in (("files", many), ("store", stored)):
        for batch in module.train_dataloader():
            show(f"{name}: batch", batch.genes, batch.values(), batch.lengths, batch.cells)
        for objective in ("masked", "contrastive", "generative"):
            settings = {**TINY, "objective": objective, "n_top_genes": 40}
            model = scenc.Model(datamodule=module, **settings)
            checkpoints = {"checkpoint_dir": folder / f"{name} {objective}"}
            if objective != "masked":
                checkpoints["n_neighbors"] = 5
            model.train(max_epochs=2, batch_size=32, **QUIET, **checkpoints)
            show(f"{name} {objective}: weights", model.module.state_dict())
            show(f"{name} {objective}: history", model.history)
            again = scenc.Model(datamodule=module, **settings)
            again.train(max_epochs=2, batch_size=32, resume=True, **QUIET, **checkpoints)
            show(f"{name} {objective} resumed: weights", again.module.state_dict())
            out = folder / f"{name} {objective} out"
            model.embed_files(paths, out, batch_size=32, progress=False)
            for path in sorted(out.iterdir()):
                embedded = ad.read_h5ad(path)
                show(f"{name} {objective}: {path.name}", embedded.obsm["X_scenc"], embedded.obs)
    adata = cells()
    model = model_of(adata, objective="masked")
    model.train(max_epochs=2, batch_size=32, **QUIET)
    model.save(folder / "model")
    show("saved", (folder / "model" / "weights.safetensors").read_bytes())
    loaded = scenc.Model.load(folder / "model", adata)
    show_model("loaded", loaded)


def benchmark(folder):
    """A benchmark, whose results of an earlier run are used."""
    training = {"max_epochs": 2, "batch_size": 32, "accelerator": "cpu"}
    before = {path.parent.name for path in folder.glob("work/jobs/*/job.json")}
    results = Benchmark(
        train=cells(80, 40, seed=1),
        evaluate={
            name: EvaluationSet(cells(60, 40, seed=seed), "cell_type", "batch", min_cells=10)
            for name, seed in (("a", 5), ("b", 6))
        },
        out=folder,
        encodings=[
            Encoding(expression_encoder=expression, model=TINY, training=training)
            for expression in ("raw", "hard", "soft")
        ],
        seeds=[0, 1],
        baselines=[PCA(5), SCVI(max_epochs=2)],
        metrics=["batch_asw", "label_asw", "nmi"],
    ).run(progress=False)
    columns = ["encoding", "dataset", "seed", "metric"]
    show("scores", results.scores.sort_values(columns)[[*columns, "value"]].reset_index(drop=True))
    show("curves", results.curves.sort_values(["encoding", "seed", "metric", "step"]))
    show("summary", results.summary())
    show("differences", results.relative_differences())
    after = {path.parent.name for path in folder.glob("work/jobs/*/job.json")}
    print(f"benchmark: {len(after - before)} jobs computed, {len(before & after)} results used")


def main(folder: Path, *wanted: str) -> None:
    """Print the lines of the parts wanted, or of all."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        parts = {
            "tokens": tokens,
            "encodings": encodings,
            "real": real,
            "files": lambda: files(Path(temporary)),
            "benchmark": lambda: benchmark(folder),
        }
        for name in wanted or parts:
            parts[name]()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
