"""Tiny data and models that the tests share.

Files of tests are imported by path, so helpers come as fixtures that return functions.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, settings

# The same examples on every machine, however slow it is at the moment, and nothing kept of a run.
# `--hypothesis-profile=explore` draws new ones.
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("explore", settings.get_profile("repeatable"), derandomize=False)
settings.load_profile("repeatable")

GENE_ENCODERS = ("learned", "protein")
EXPRESSION_ENCODERS = ("raw", "hard", "log", "soft")
ENCODINGS = list(product(GENE_ENCODERS, EXPRESSION_ENCODERS))
# Smaller than most of the simulated cells, so that genes are drawn.
TINY = {
    "objective": "masked",
    "d_model": 16,
    "n_layers": 1,
    "n_heads": 2,
    "d_feedforward": 32,
    "context": 20,
    "expression_hidden": 16,
    "protein_hidden": 16,
}
# How a file may store a matrix.
FORMS = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.asarray}
# The cells that scanpy ships; every other name of real data is a file of the shared data.
SHIPPED = "pbmc68k"


def find_shared():
    """Return the folder of the shared data: that which SCENC_SHARED names, or beside the checkout.

    None where there is none. Any folder may be called "shared": what it holds tells.
    """
    named = os.environ.get("SCENC_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[1].parent / "shared"
    if all((folder / part).is_dir() for part in ("data/genes", "manifests")):
        return folder
    if named:
        raise pytest.UsageError(
            f"SCENC_SHARED={named}: there is no folder of the shared data (with data/genes and "
            "manifests) at this path; correct the variable or unset it"
        )
    return None


def pytest_configure(config):
    find_shared()  # Its error stops the run here.
    # Threads on tensors this small only wait for each other, and for those of the other process.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if getattr(config.option, "numprocesses", None):
        # For the processes to come: where numba is loaded already it does not take another number.
        os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    os.environ.setdefault("MPLBACKEND", "Agg")
    # What the command line prints is read as plain text, wrapped alike in every terminal.
    for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "COLUMNS"):
        os.environ.pop(name, None)
    # Tests send interrupts, which what a shell runs in the background ignores.
    main_thread = threading.current_thread() is threading.main_thread()
    if main_thread and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    """Leave repetitions on absent data out, and begin with the files that take long.

    Then no process is left with one of them at the end.
    """
    if find_shared() is None:
        repeated = [item for item in items if item.get_closest_marker("shared")]
        config.hook.pytest_deselected(items=repeated)
        items[:] = [item for item in items if not item.get_closest_marker("shared")]
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_terminal_summary(terminalreporter):
    """Say in one line how many tests were skipped, and what they need.

    The reason of a skip begins with "needs".
    """
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if reasons:
        each = [
            f"{n} {reason if n == 1 else reason.replace('needs', 'need', 1)}"
            for reason, n in reasons.most_common()
        ]
        tests = "test" if len(skipped) == 1 else "tests"
        terminalreporter.write_line(f"{len(skipped)} {tests} skipped: {', '.join(each)}")
    if find_shared() is None:
        terminalreporter.write_line("Left out: what repeats tests on the shared data.")


@pytest.fixture(autouse=True)
def single_thread():
    """Undo what other libraries set: they share PyTorch's pool of threads."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def simulate_counts(n_cells=120, n_genes=60, seed=0):
    """Draw counts of cells of three kinds and differing depth, no cell empty."""
    rng = np.random.default_rng(seed)
    profiles = rng.gamma(0.6, 2.0, (3, n_genes))
    depth = rng.uniform(0.1, 1.5, (n_cells, 1))
    counts = rng.poisson(profiles[np.arange(n_cells) % 3] * depth).astype(np.float32)
    counts[:, 0] += counts.sum(axis=1) == 0
    return counts


@pytest.fixture(scope="session")
def shared_folder():
    """Folder of real data and tables that are on some machines only."""
    folder = find_shared()
    if folder is None:
        pytest.skip("needs the shared data (SCENC_SHARED)")
    return folder


@pytest.fixture(scope="session")
def shared_data(shared_folder):
    """Folder of the real data."""
    return shared_folder / "data"


@pytest.fixture(scope="session")
def real_cells():
    """Return a reader of real counts with batches and types: shipped ones, or a shared file's."""
    import anndata

    import scenc

    def read(name):
        if name != SHIPPED:
            return anndata.read_h5ad(find_shared() / "data" / f"{name}.h5ad")
        adata = scenc.datasets.pbmc68k()
        # They are of one batch; phases of the cell cycle stand in for others.
        adata.obs["batch"] = adata.obs["phase"]
        return adata

    return read


@pytest.fixture(scope="session")
def shipped_files(tmp_path_factory, real_cells):
    """Return two files of shipped cells, with different genes under old and under current names."""
    from scenc.genes import harmonize

    adata = real_cells(SHIPPED)
    current = harmonize(adata.var_names)
    adata.var["ensembl_id"] = current.ensembl_id
    folder = tmp_path_factory.mktemp("shipped")
    old, new = adata[:400, :600].copy(), adata[400:, 165:].copy()
    new.var_names = current.mapped[165:]
    for name, part in (("old", old), ("new", new)):
        part.write_h5ad(folder / f"{name}.h5ad")
    return [folder / "old.h5ad", folder / "new.h5ad"]


@pytest.fixture(scope="session")
def make_counts():
    """Return the simulator of counts: (n_cells, n_genes, seed) to a dense matrix."""
    return simulate_counts


@pytest.fixture(scope="session")
def make_adata():
    """Return a maker of AnnData from a count matrix (by default a simulated one)."""
    import anndata

    def make(counts=None, **parts):
        counts = sp.csr_matrix(simulate_counts()) if counts is None else counts
        n_cells, n_genes = counts.shape
        obs = pd.DataFrame(
            {
                "batch": pd.Categorical([f"donor{i % 2}" for i in range(n_cells)]),
                "cell_type": pd.Categorical([f"type{i % 3}" for i in range(n_cells)]),
            },
            index=[f"cell{i}" for i in range(n_cells)],
        )
        var = pd.DataFrame(index=[f"FAKE{i}" for i in range(n_genes)])
        return anndata.AnnData(**{"X": counts, "obs": obs, "var": var, **parts})

    return make


@pytest.fixture
def adata(make_adata):
    """120 cells x 60 genes."""
    return make_adata()


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


@pytest.fixture(scope="session")
def make_vectors():
    """Return a maker of random pretrained gene vectors; every tenth gene has none."""

    def make(genes, dim=8):
        vectors = np.random.default_rng(1).normal(size=(len(genes), dim)).astype(np.float32)
        vectors[::10] = np.nan
        return pd.DataFrame(vectors, index=genes)

    return make


@pytest.fixture(params=ENCODINGS, ids="-".join)
def encoding(request):
    """Each of the eight encodings, as arguments of the model."""
    return dict(zip(("gene_encoder", "expression_encoder"), request.param, strict=True))


@pytest.fixture(scope="session")
def make_model(make_vectors):
    """Return a maker of tiny models, which sets the data up as well."""
    from scenc.model import Model

    def make(adata, setup=None, **settings):
        Model.setup_anndata(adata, **(setup or {}))
        if settings.get("gene_encoder") == "protein":
            settings.setdefault("protein_embeddings", make_vectors(adata.var_names))
        return Model(adata, **{**TINY, **settings})

    return make


@pytest.fixture(scope="session")
def train():
    """Return a short, silent training on the CPU."""

    def run(model, **settings):
        short = {"max_epochs": 2, "batch_size": 32, "accelerator": "cpu"}
        model.train(**{"enable_progress_bar": False, **short, **settings})
        return model

    return run


@pytest.fixture(scope="session")
def trained(make_adata, make_model, train):
    """Return a trained model with its data; not to be trained on or changed."""
    setup = {"batch_key": "batch", "labels_key": "cell_type"}
    return train(make_model(make_adata(), setup, n_layers=2, dropout=0.1))


@pytest.fixture(scope="session")
def processes():
    """Return a source of processes of their own, with everything imported once for all of them."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["scenc.model", "scenc.benchmark.jobs._tasks", "scenc.metrics"])
    return context


@pytest.fixture(scope="session")
def make_batch():
    """Return a maker of token batches from dense counts (by default simulated ones)."""
    from scenc.data import Tokenizer

    def make(counts=None, *, seed=0, **settings):
        counts = simulate_counts(12, 30) if counts is None else np.asarray(counts, np.float32)
        tokenizer = Tokenizer(**settings)
        n_cells, n_genes = counts.shape
        return tokenizer(sp.csr_matrix(counts), np.arange(n_cells), np.arange(n_genes), seed)

    return make


@pytest.fixture(scope="session")
def weights_of():
    """Return a reader of a network's parameters, by name."""

    def read(model):
        network = getattr(model, "module", model)
        return {name: w.detach().clone().numpy() for name, w in network.named_parameters()}

    return read


def simulate_results(datasets=("kang", "heart", "liver"), seeds=(0, 1), vectors="protein", rng=0):
    """Draw the tables of a benchmark: 8 encodings, 2 controls, 2 baselines."""
    rng = np.random.default_rng(rng)
    who = [
        (
            f"{genes if genes == 'learned' else vectors} + {expression}",
            "encoding",
            genes,
            expression,
        )
        for genes, expression in ENCODINGS
    ]
    who += [
        ("learned + hard (global edges)", "control", "learned", "hard"),
        ("learned + log (of x~)", "control", "learned", "log"),
        ("PCA", "baseline", None, None),
        ("scVI", "baseline", None, None),
    ]
    metrics = ("batch_correction", "bio_preservation", "nmi", "accuracy", "macro_f1")
    columns = ["encoding", "kind", "gene_encoder", "expression_encoder"]
    scores, curves, jobs = [], [], []
    for name, *rest in who:
        row = dict(zip(columns, (name, *rest), strict=True))
        baseline = rest[0] == "baseline"
        for dataset in datasets:
            for seed in seeds:
                at = {**row, "dataset": dataset, "seed": seed, "reason": ""}
                scores += [{**at, "metric": m, "value": rng.uniform(0.2, 0.9)} for m in metrics]
                mse = np.nan if baseline else rng.uniform(0.1, 0.3)
                why = f"{name} does not predict" if baseline else ""
                scores.append({**at, "metric": "reconstruction_mse", "value": mse, "reason": why})
                jobs.append((f"score/{name}/{dataset}/{seed}", "score", name, dataset, seed))
        for seed in () if baseline else seeds:
            jobs.append((f"train/{name}/{seed}", "train", name, None, seed))
            for step in range(9, 100, 10):
                value = 0.2 + np.exp(-step / 20) + rng.uniform(0, 0.01)
                for kind in ("train", "validation"):
                    metric = f"reconstruction_loss_{kind}"
                    curves.append((name, seed, metric, step / 50, step, value))
    jobs = pd.DataFrame(jobs, columns=["job", "task", "encoding", "dataset", "seed"])
    jobs = jobs.assign(status="done", reason="", seconds=2.0, peak_memory_mb=300.0)
    jobs["diverged_step"] = pd.array([None] * len(jobs), dtype="Int64")
    names = ["encoding", "seed", "metric", "epoch", "step", "value"]
    return {
        "scores": pd.DataFrame(scores),
        "curves": pd.DataFrame(curves, columns=names),
        "jobs": jobs,
    }


@pytest.fixture(scope="session")
def make_tables():
    """Return the simulator of a benchmark's tables: scores, curves and jobs, by name."""
    return simulate_results


@pytest.fixture(scope="session")
def make_budget_tables():
    """Return the simulator of tables of encodings judged at three budgets, with baselines."""

    def make(budgets=(25_000, 100_000, 250_000), **settings):
        tables = simulate_results(**settings)
        for name in ("scores", "jobs"):
            table = tables[name]
            trained = ~table["encoding"].isin(["PCA", "scVI"])
            parts = [table[trained].assign(budget=budget) for budget in budgets]
            for number, part in enumerate(parts):
                if name == "scores":
                    part["value"] *= (number + 1) / len(parts)
                else:
                    part["job"] += f"@{budgets[number]}"
            tables[name] = pd.concat([*parts, table[~trained]], ignore_index=True)
        return tables

    return make
