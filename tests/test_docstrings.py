"""Examples in docstrings run, and give what they say, in the order of a reader's session."""

from __future__ import annotations

import doctest
import inspect
from importlib import import_module

import matplotlib as mpl
import numpy as np
import pytest

import scenc

MODULES = ("benchmark", "data", "datasets", "genes", "metrics", "model", "nn", "pl", "tasks",
           "train")  # fmt: skip
# What only the tests of these names themselves can run.
NOT_HERE = {
    "scenc.benchmark.Benchmark": "trains for minutes (tests/benchmark)",
    "scenc.benchmark.Results.at_budget": "needs results with budgets (tests/results)",
    "scenc.benchmark.write_report": "needs a benchmark's folder (tests/benchmark/report)",
    "scenc.datasets.download": "needs the network",
    "scenc.datasets.tabula_sapiens": "needs the network",
    "scenc.model.Model.from_pretrained": "needs the network (tests/model/test_sharing.py)",
    "scenc.model.Model.push_to_hub": "needs the network (tests/model/test_sharing.py)",
    "scenc.train.Budget": "trains for minutes (tests/train/test_checkpoints.py)",
}
# Begin without what earlier examples, or the session, have written.
WRITE_ANEW = ("scenc.data.build_store", "scenc.model.Model.save")
CHECK = doctest.OutputChecker()
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def _public():
    """Yield the name and the object of everything public."""
    for module in MODULES:
        package = import_module(f"scenc.{module}")
        for name in package.__all__:
            yield f"scenc.{module}.{name}", getattr(package, name)


def _documented():
    """Yield the name and the docstring of every public object, methods too."""
    for name, member in _public():
        yield name, inspect.getdoc(member)
        if inspect.isclass(member):
            yield from _methods(name, member)


def _methods(name, kind):
    for key, member in inspect.getmembers(kind):
        inner = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if not key.startswith("_") and (getattr(inner, "__module__", "") or "").startswith("scenc"):
            yield f"{name}.{key}", inspect.getdoc(inner)


EXAMPLES = {
    name: found
    for name, text in _documented()
    if text and (found := doctest.DocTestParser().get_examples(text))
}


def test_public_names_have_examples():
    """Those of classes and functions: values and aliases of types have no docstring."""
    without = [
        name
        for name, member in _public()
        if (inspect.isclass(member) or inspect.isroutine(member))
        and ">>>" not in (member.__doc__ or "")
    ]
    assert not without


@pytest.fixture(scope="module")
def session(tmp_path_factory, make_tables):
    """Names and files that examples take for granted: cells, a trained model, results."""
    import matplotlib.pyplot as plt
    import pandas as pd
    import scanpy as sc
    from mudata import MuData

    mpl.use("Agg")
    folder = tmp_path_factory.mktemp("session")
    adata = scenc.datasets.pbmc68k()
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories({"CD19+ B": "B cell"})
    adata.obs["donor_id"] = np.where(np.arange(adata.n_obs) % 2, "d1", "d2")
    adata.obs["batch"] = adata.obs["donor_id"]
    for name in ("a", "b", "lung", "atlas", "query"):
        adata.write_h5ad(folder / f"{name}.h5ad")
    adata.write_zarr(folder / "gut.zarr")
    query, reference = adata.copy(), adata.copy()
    scenc.Model.setup_anndata(adata, labels_key="cell_type")
    model = scenc.Model(adata)
    model.train(cell_visits=500, enable_progress_bar=False)
    model.save(folder / "pbmc_model")
    inputs = [folder / "a.h5ad", folder / "b.h5ad"]
    scenc.data.build_store(inputs, folder / "atlas.zarr", progress=False)
    mdata = MuData({"rna": query.copy()})
    results = scenc.benchmark.Results.from_tables(**make_tables())
    names = {"scenc": scenc, "adata": adata, "query": query, "reference": reference,
             "mdata": mdata, "model": model, "results": results, "np": np, "pd": pd, "sc": sc,
             "plt": plt}  # fmt: skip
    return folder, names


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name, session, monkeypatch, capsys, tmp_path):
    if name in NOT_HERE:
        pytest.skip(NOT_HERE[name])
    folder, given = session
    train = scenc.Model.train

    def short(self, *args, **settings):
        settings.pop("max_epochs", None)
        train(self, *args, **{**settings, "cell_visits": 500, "enable_progress_bar": False})

    monkeypatch.setattr(scenc.Model, "train", short)
    if name in WRITE_ANEW:
        for path in folder.glob("*.h5ad"):
            (tmp_path / path.name).symlink_to(path)
        folder = tmp_path
    monkeypatch.chdir(folder)
    names = {**vars(import_module(".".join(name.split(".")[:2]))), **given}
    for example in EXAMPLES[name]:
        if doctest.SKIP in example.options:
            continue
        capsys.readouterr()
        if not example.want:  # what it shows is not written out
            exec(compile(example.source, name, "exec"), names)
            continue
        exec(compile(example.source, name, "single"), names)
        shown = capsys.readouterr().out
        assert CHECK.check_output(example.want, shown, FLAGS), f"{example.source}{shown}"
