"""The command line, run as a user runs it."""

import subprocess
import sys

import anndata
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from typer.testing import CliRunner

from scenc import __version__
from scenc.cli import app, main

LIGHT = """
import sys
import scenc.cli
heavy = {"scvi", "torch", "scanpy", "lightning", "jax"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process: exit code, output, errors."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["scenc", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return call


def test_importing_the_command_line_loads_nothing_heavy():
    subprocess.run([sys.executable, "-W", "error", "-c", LIGHT], check=True)


@pytest.mark.parametrize(
    "command", [[], ["demo"], ["genes"], ["genes", "check"], ["genes", "embed-proteins"]]
)
def test_every_command_has_help(command):
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_version(run):
    code, out, _ = run("--version")
    assert (code, out.strip()) == (0, __version__)


def test_bad_input_is_one_line_and_a_non_zero_exit(run):
    code, out, err = run("genes", "check", "nowhere.h5ad")
    assert code == 1
    assert out == ""
    assert err.strip().splitlines() == ["Error: There is no file nowhere.h5ad."]


def test_an_unknown_option_is_a_usage_error(run):
    code, _, err = run("demo", "--epochs", "3")
    assert code == 2
    assert "--epochs" in err


def test_genes_check_counts_by_rule(run, tmp_path):
    path = tmp_path / "genes.txt"
    path.write_text("CD4\nCPSF3L\nENSG00000153563.16\nNOT_A_GENE\n")
    code, out, _ = run("genes", "check", path)
    assert code == 0
    assert "4 names" in out
    assert "previous symbol" in out
    assert "CPSF3L" in out
    assert "NOT_A_GENE" in out


def test_genes_check_against_a_model_needs_no_torch(tmp_path, trained):
    trained.save(tmp_path / "model")
    genes = tmp_path / "genes.txt"
    genes.write_text("\n".join([*trained.vocabulary[:10], "absent"]))
    arguments = ["scenc", "genes", "check", str(genes), "--model", str(tmp_path / "model")]
    code = (
        f"import sys; sys.argv = {arguments!r}\n"
        "from scenc.cli import app; app(standalone_mode=False)\n"
        "assert not {'scvi', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"10 of 11 columns used, {100 * 10 / len(trained.vocabulary):.1f} %" in done.stdout


def test_genes_check_reports_protein_coverage(run, tmp_path):
    import numpy as np

    from scenc.genes import ProteinEmbeddings

    file = ProteinEmbeddings.from_arrays(["CD4", "CD8A"], np.eye(2)).save(
        tmp_path / "p.safetensors"
    )
    genes = tmp_path / "genes.txt"
    genes.write_text("CD4\nMS4A1\n")
    code, out, _ = run("genes", "check", genes, "--protein", file)
    assert code == 0
    assert "1 of 2 genes have a vector (50.0 %)" in out


@pytest.mark.slow
def test_demo_writes_what_it_says(run, tmp_path):
    plt.close("all")
    tmp_path = tmp_path / "demo [new] :x:"
    code, out, _ = run("demo", "--out", tmp_path, "--max-epochs", 1)
    assert code == 0
    assert f"wrote {tmp_path / 'umap.png'}" in out
    assert not plt.get_fignums()
    for name in ("umap.png", "training.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    adata = anndata.read_h5ad(tmp_path / "pbmc68k_scenc.h5ad")
    assert adata.obsm["X_scenc"].shape == (700, 64)
    assert isinstance(adata.obs["cell_type"].dtype, pd.CategoricalDtype)
    for row in ("scenc", "scenc, untrained", "50 PCs"):
        assert row in out
    for column in ("kNN accuracy", "macro F1", "label silhouette"):
        assert column in out
