"""Configurations: those that come with the package, and those with mistakes."""

from __future__ import annotations

import numpy as np
import pytest

from scenc.benchmark import Benchmark
from scenc.benchmark.entries._yaml_file import read_config

GOOD = """
title: Try
train:
  files: [a.h5ad, sub/b.h5ad]
  batch_key: donor
evaluate:
  liver: {file: liver.h5ad, label_key: type, batch_key: donor, min_cells: 20}
encodings:
  gene_encoders: [learned]
  expression_encoders: [soft, log]
  controls: true
  model: {context: 32}
  training: {max_epochs: 1, lr: 1e-3}
  others:
    - {name: wide, model: {d_model: 128}}
baselines: [PCA, scVI: {max_epochs: 2}]
seeds: [3, 4]
budgets: [500, 2000]
negative_controls: [labels]
metrics: [ari]
threads: 2
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text):
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def test_a_file_says_what_the_arguments_say(write, tmp_path):
    benchmark = Benchmark.from_config(write(GOOD), tmp_path / "out")
    assert [entry.name for entry in benchmark.entries] == [
        "learned + soft", "learned + log", "learned + log (of x~)", "wide", "PCA", "scVI",
    ]  # fmt: skip
    assert benchmark.train.sources == [tmp_path / "a.h5ad", tmp_path / "sub" / "b.h5ad"]
    assert benchmark.train.batch_key == "donor"
    liver = benchmark.evaluate["liver"]
    assert (liver.data, liver.min_cells) == (tmp_path / "liver.h5ad", 20)
    assert (benchmark.seeds, benchmark.threads, benchmark.title) == ((3, 4), 2, "Try")
    assert benchmark.budgets == (500, 2000)
    assert benchmark.negative_controls == ("labels",)
    assert benchmark.entries[0].encoding.settings(0)["training"]["lr"] == 1e-3
    assert len(benchmark.missing_files) == 3


def test_files_are_relative_to_the_config_or_to_what_is_said(write, tmp_path):
    path = write(GOOD + "data_dir: cells\n")
    assert read_config(path).data_dir == tmp_path / "cells"
    assert read_config(path, "elsewhere").arguments()["train"].sources[0].parts[0] == "elsewhere"


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("title:", "titel:", TypeError, "Unknown key 'titel'. Did you mean 'title'"),
        ("min_cells:", "min_cell:", TypeError, "evaluate.liver: 'min_cell'. Did you mean"),
        ("  batch_key: donor\n", "  batch: donor\n", TypeError, "key in train: 'batch'"),
        ("  gene_encoders:", "  gene_encoder:", TypeError, "Did you mean 'gene_encoders'"),
        ("name: wide", "nam: wide", TypeError, "an encoding: 'nam'. Did you mean 'name'"),
        ("file: liver.h5ad", "file: 3", ValueError, "evaluate.liver.file must be a file name"),
        ("file: liver.h5ad, ", "", ValueError, "evaluate.liver lacks 'file'"),
        ("[a.h5ad, sub/b.h5ad]", "a.h5ad", ValueError, "train.files must be a list"),
        ("seeds: [3, 4]", "seeds: 3", ValueError, "seeds must be a list, got 3"),
        ("model: {context: 32}", "model: 32", ValueError, "encodings.model must hold keys"),
        ("seeds: [3, 4]", "seeds: [3", ValueError, "not valid YAML"),
        ("threads: 2", "threads: 2\nthreads: 3", ValueError, "'threads' stands twice"),
        ("evaluate:", "evaluate: {}\nshared:", ValueError, "names no evaluation set"),
        ("title: Try", "title: !!python/object/apply:os.getcwd []", ValueError, "not valid YAML"),
    ],
)
def test_mistakes_are_named_with_the_file(write, old, new, error, message):
    assert old in GOOD
    path = write(GOOD.replace(old, new))
    with pytest.raises(error, match=message) as caught:
        read_config(path).arguments()
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"seeds": [1, 1]}, ValueError, "different numbers"),
        ({"seeds": ["a"]}, ValueError, "whole numbers"),
        ({"seeds": []}, ValueError, "one or more"),
        ({"metrics": ["arii"]}, ValueError, "Did you mean 'ari'"),
        ({"evaluate": {}}, ValueError, "no evaluation set"),
        ({"evaluate": {"a": {"data": "x.h5ad", "min_cells": 1}}}, ValueError, "min_cells"),
        ({"evaluate": {"a": {"data": "x", "labels_key": "t"}}}, TypeError, "Did you mean 'label_"),
        ({"train": {"layer": "counts"}}, TypeError, "needs data"),
        ({"train": None}, ValueError, "needs cells to train on"),
        ({"encodings": [{"gene_encoder": "protein"}]}, ValueError, "needs protein_embeddings"),
        ({"threads": 0}, ValueError, "threads"),
        ({"k": 0}, ValueError, "k must be"),
    ],
)
def test_wrong_arguments_are_refused_before_data_are_read(make_benchmark, change, error, message):
    with pytest.raises(error, match=message):
        make_benchmark(**change)


def test_small_is_the_replication(tmp_path):
    benchmark = Benchmark.from_config("small", tmp_path, tmp_path)
    kinds = [entry.kind for entry in benchmark.entries]
    assert [kinds.count(kind) for kind in ("encoding", "control", "baseline")] == [8, 2, 3]
    assert benchmark.seeds == (0, 1, 2)
    assert [path.name for path in benchmark.train.sources] == [
        "pbmc_unlabelled_4runs.h5ad", "pbmc4k_4060genes.h5ad", "breast_cell_lines_31x30.h5ad",
    ]  # fmt: skip
    assert {name: of.min_cells for name, of in benchmark.evaluate.items()} == {
        "kang18": 250, "pbmc_7batches": 250, "luad": 250, "heart": 30, "dlpfc": 50, "baron": 30,
    }  # fmt: skip
    named = {entry.name for entry in benchmark.entries}
    assert "text (MiniLM) + soft" in named
    assert not any("ESM" in name for name in named)
    settings = [e.encoding.settings(0) for e in benchmark.entries if e.kind != "baseline"]
    assert len({str(s["training"]) for s in settings}) == 1
    assert {s["model"]["objective"] for s in settings} == {"masked"}
    sizes = ("d_model", "n_layers", "n_heads", "context")
    assert len({tuple(s["model"][name] for name in sizes) for s in settings}) == 1


def test_small_can_be_run_on_what_it_names(shared_data, tmp_path):
    benchmark = Benchmark.from_config("small", tmp_path, shared_data)
    assert benchmark.missing_files == []
    import anndata

    for name, given in benchmark.evaluate.items():
        sizes = anndata.read_h5ad(given.data, backed="r").obs[given.label_key].value_counts()
        assert (sizes >= given.min_cells).sum() > 1, name


def test_paper_names_what_the_paper_does(tmp_path):
    config = read_config("paper", tmp_path)
    files = config.values["train"]["files"]
    assert len(files) == len(set(files)) == 101
    assert len(config.values["evaluate"]) == 26
    benchmark = Benchmark.from_config("paper", tmp_path, tmp_path)
    assert len(benchmark.missing_files) == 101 + 26 + 1
    assert [entry.kind for entry in benchmark.entries].count("encoding") == 8
    assert benchmark.seeds == (777,)
    assert {of.min_cells for of in benchmark.evaluate.values()} == {250}
    assert {of.batch_key for of in benchmark.evaluate.values()} == {"10X_run"}
    with pytest.raises(FileNotFoundError, match="128 files are missing"):
        benchmark.run()


def test_paper_files_are_what_the_download_writes(tmp_path):
    from scenc import datasets

    ids = [name.removesuffix(".h5ad") for name in read_config("paper").values["train"]["files"]]
    table = datasets.pretraining()
    expected = table["dataset_id"].where(table["dataset_id"].notna(), table["paper_id"])
    assert ids == expected.tolist()
    assert int(table["paper_cells"].sum()) - 20 == read_config("paper").values["train"]["n_cells"]
    tissues = {name.replace(" ", "_") for name in datasets.tissues().index}
    assert tissues == set(read_config("paper").values["evaluate"])


def test_a_missing_config_is_named():
    with pytest.raises(FileNotFoundError, match="no file smal; scenc itself brings 'small'"):
        read_config("smal")


def test_numbers_with_exponents_are_numbers(write):
    values = read_config(write(GOOD)).values
    assert values["encodings"]["training"]["lr"] == np.float64("1e-3")
