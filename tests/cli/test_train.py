"""``scenc train`` and ``scenc embed``, run as a user runs them."""

from __future__ import annotations

import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest

import scenc
from scenc.cli import main


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


@pytest.fixture(scope="module")
def files(atlas):
    return atlas[0][:3]


def test_train_then_embed(run, files, tmp_path):
    model = tmp_path / "model"
    options = ["--objective", "masked", "--max-epochs", 2, "--batch-size", 16]
    code, out, err = run("train", *files, "--out", model, *options, "--batch-key", "donor")
    assert code == 0, err
    assert f"wrote {model}" in out
    assert (tmp_path / "model.checkpoints" / "last.ckpt").is_file()
    curves = pd.concat(map(pd.read_csv, (tmp_path / "model.checkpoints").rglob("metrics.csv")))
    assert curves["train_loss"].notna().sum() == 2 * -(-143 // 16)

    code, out, err = run("embed", model, *files, "--out", tmp_path / "embedded")
    assert code == 0, err
    loaded = scenc.Model.load(model)
    for source in files:
        path = tmp_path / "embedded" / f"{source.stem}.h5ad"
        assert f"wrote {path}" in out
        found = anndata.read_h5ad(path)
        cells = anndata.read_h5ad(source)
        if cells.raw is not None:
            cells = cells.raw.to_adata()
        expected = loaded.get_latent_representation(cells, key_added=None)
        np.testing.assert_allclose(found.obsm["X_scenc"], expected, rtol=1e-4, atol=1e-5)

    code, out, err = run("train", *files, "--out", model)
    assert code == 1
    assert "pass --overwrite" in err
    code, out, err = run("train", *files, "--out", model, *options, "--overwrite")
    assert code == 1
    assert "resume=True" in err
    code, out, err = run(
        "train", *files, "--out", model, *options, "--batch-key", "donor", "--overwrite", "--resume"
    )
    assert code == 0, err


def test_what_is_wrong_is_said_in_a_line(run, tmp_path):
    code, _, err = run("train", tmp_path / "none.h5ad", "--out", tmp_path / "model")
    assert code == 1
    assert "none.h5ad" in err
    code, _, err = run("embed", tmp_path, tmp_path / "none.h5ad", "--out", tmp_path / "embedded")
    assert code == 1
    assert "no saved scenc model" in err
    assert "Traceback" not in err


def test_help_needs_no_torch():
    code = (
        "import sys; from scenc.cli import app; from typer.testing import CliRunner; "
        "r = [CliRunner().invoke(app, [c, '--help']) for c in ('train', 'embed')]; "
        "assert all(x.exit_code == 0 for x in r), r; assert 'files' in r[0].output.lower(); "
        "assert not {'torch', 'scvi', 'anndata'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
