"""``scenc benchmark``, as a user runs it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

from scenc.cli import app, main

CONFIG = """
train: {files: [train.h5ad]}
evaluate:
  mine: {file: query.h5ad, batch_key: batch, min_cells: 10}
encodings:
  gene_encoders: [learned]
  expression_encoders: [soft]
  model: {d_model: 16, n_layers: 1, context: 20, d_feedforward: 32}
  training: {max_epochs: 1, accelerator: cpu}
baselines: [PCA]
seeds: [0]
metrics: [batch_asw]
"""


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process: exit code, output, errors."""

    def call(*arguments):
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setattr(sys, "argv", ["scenc", "benchmark", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return call


@pytest.fixture
def config(tmp_path, make_adata, make_counts):
    make_adata(sp.csr_matrix(make_counts(80, 40, 1))).write_h5ad(tmp_path / "train.h5ad")
    make_adata(sp.csr_matrix(make_counts(60, 40, 5))).write_h5ad(tmp_path / "query.h5ad")
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def test_it_has_help():
    result = CliRunner().invoke(app, ["benchmark", "--help"])
    assert result.exit_code == 0
    for option in ("--out", "--dry-run", "--workers", "--data-dir", "--fresh", "--resume"):
        assert option in result.output


def test_it_runs_resumes_and_says_what_it_wrote(run, config, tmp_path):
    out = tmp_path / "results [new] :x:"
    code, said, _ = run(config, "--out", out)
    assert code == 0
    assert "learned + soft" in said
    assert "PCA" in said
    assert f"wrote {out}" in said
    for name in ("scores.parquet", "scores.csv", "summary.csv", "jobs.csv", "run.json"):
        assert (out / name).is_file()
    record = next((out / "work" / "jobs").glob("*/job.json"))
    before = record.stat().st_mtime_ns
    code, again, _ = run(config, "--out", out, "--resume")
    assert code == 0
    assert again == said
    assert record.stat().st_mtime_ns == before


def test_a_dry_run_prints_the_jobs_and_does_none(run, config, tmp_path):
    out = tmp_path / "results"
    code, said, _ = run(config, "--out", out, "--dry-run")
    assert code == 0
    for word in ("train", "embed", "score", "learned + soft", "PCA", "memory", "Estimates:"):
        assert word in said
    assert "5 jobs, 0 of them done" in said
    assert not out.exists()
    code, said, _ = run(config, "--out", out, "--dry-run", "--all")
    assert "score/PCA/mine/0" in said


def test_budgets_and_seeds_are_given_in_a_row(run, config, tmp_path):
    out = tmp_path / "results"
    code, said, _ = run("--budgets", 80, 200, config, "--seeds", 1, 2, "--out", out, "--dry-run",
                        "--all")  # fmt: skip
    assert code == 0
    for name in (
        "train/learned + soft/1@80",
        "score/learned + soft/mine/2@200",
        "score/PCA/mine/1",
    ):
        assert name in said
    assert "16 jobs, 0 of them done" in said
    code, said, _ = run(config, "--out", out, "--dry-run", "--all", "--negative-controls")
    assert code == 0
    assert "10 jobs, 0 of them done" in said
    assert "embed/learned + soft/mine/genes shuffled/0" in said
    code, said, _ = run(config, "--out", out, "--budgets", "80", "--budgets=200")
    assert code == 0
    assert "learned + soft" in said
    code, _, err = run(config, "--out", out, "--budgets", "0")
    assert code == 2


def test_failed_jobs_end_in_an_error(run, config, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no such luck")

    monkeypatch.setattr("scenc.Model.get_latent_representation", fail)
    code, said, err = run(config, "--out", tmp_path / "results")
    assert code == 1
    assert "2 jobs failed" in err
    assert "failed: embed/learned + soft/mine/0: ValueError: no such luck" in said
    assert "PCA" in said


def test_other_genes_are_refused_before_any_job(run, config, tmp_path, make_adata, make_counts):
    strange = make_adata(sp.csr_matrix(make_counts(60, 40, 5)))
    strange.var_names = [f"STRANGE{i}" for i in range(40)]
    strange.write_h5ad(tmp_path / "query.h5ad")
    for more in ([], ["--dry-run"]):
        code, _, err = run(config, "--out", tmp_path / "results", *more)
        assert code == 1
        assert "'mine': only 0 of its 40 genes" in err


def test_missing_files_are_named_with_where_they_come_from(run, tmp_path):
    for name, source in {"small": "A small replication", "paper": "scenc data download"}.items():
        code, _, err = run(name, "--out", tmp_path / "out", "--data-dir", tmp_path)
        assert code == 1
        assert f"the first: {tmp_path}" in err
        assert source in err
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [["--all"], ["--dry-run", "--fresh"], ["--dry-run", "--resume"],
                                  ["--dry-run", "--workers", "2"]])  # fmt: skip
def test_options_that_cannot_apply_are_refused(run, config, tmp_path, more):
    code, _, err = run(config, "--out", tmp_path / "out", *more)
    assert (code, "cannot apply" in err) == (1, True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("min_cells", "mincells", "Did you mean 'min_cells'?"),
        ("query.h5ad", "querry.h5ad", "1 file is not there, the first:"),
        ("batch_key: batch", "batch_key: donor", "the batch key must be one of"),
        ("context: 20", "contekst: 20", "Did you mean 'context'?"),
    ],
)
def test_mistakes_are_one_line(run, config, tmp_path, old, new, message):
    config.write_text(CONFIG.replace(old, new))
    code, _, err = run(config, "--out", tmp_path / "results")
    assert code == 1
    assert len(err.strip().splitlines()) == 1
    assert message in err
    assert not (tmp_path / "results" / "scores.csv").exists()


def test_contradictions_are_refused(run, config, tmp_path):
    code, _, err = run(config, "--out", tmp_path, "--fresh", "--resume")
    assert (code, err) == (1, "Error: --fresh and --resume exclude each other.\n")


def test_plain_errors_need_no_torch(tmp_path):
    arguments = ["scenc", "benchmark", "nowhere.yaml", "--out", str(tmp_path)]
    code = (
        f"import sys; sys.argv = {arguments!r}\n"
        "from scenc.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {'scvi', 'torch', 'anndata', 'scanpy'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    )
    assert "There is no file nowhere.yaml" in done.stderr
