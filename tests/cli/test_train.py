"""``scenc train`` and ``scenc embed``, run as a user runs them."""

from __future__ import annotations

import shutil
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import typer

import scenc
from scenc.cli import app, main
from scenc.cli._options import in_own_words


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


def test_a_trial_is_as_long_as_it_is_asked_for(run, files, tmp_path):
    options = ["--objective", "masked", "--batch-size", 16, "--cell-visits", 100]
    code, out, err = run("train", files[0], "--out", tmp_path / "model", *options)
    assert code == 0, err
    assert "preparing" in out
    curves = pd.concat(map(pd.read_csv, (tmp_path / "model.checkpoints").rglob("metrics.csv")))
    # Whole passes over the cells, as few as have so many visits.
    n_train = 0.9 * anndata.read_h5ad(files[0]).n_obs
    assert 100 <= 16 * curves["train_loss"].notna().sum() <= 100 + n_train + 16


def test_what_is_there_is_replaced_or_gone_on_from_as_said(run, files, tmp_path, monkeypatch):
    model, checkpoint = tmp_path / "model", tmp_path / "model.checkpoints" / "last.ckpt"

    def train(*more, seed=0):
        options = ["--objective", "masked", "--max-epochs", 1, "--batch-size", 64, "--seed", seed]
        return run("train", *files, "--out", model, *options, *more)

    def weights():
        return (model / "weights.safetensors").read_bytes()

    assert train()[0] == 0
    first = weights()
    code, _, err = train()
    assert (code, "pass --overwrite to train anew" in err, "--resume" in err) == (1, True, False)

    # Whatever the checkpoint of the model that is replaced: it is a new run.
    assert train("--overwrite", seed=1)[0] == 0
    second = weights()
    assert second != first
    assert train("--overwrite", "--resume", seed=2)[0] == 0
    assert weights() not in (first, second)

    # A run that fails before it begins leaves all as it was.
    before = weights(), checkpoint.read_bytes()
    code, _, err = train("--overwrite", "--batch-key", "nothing")
    assert (code, "no column 'nothing'" in err) == (1, True)
    assert (weights(), checkpoint.read_bytes()) == before

    # One that is broken off later can be gone on from, beside the model that it is to replace.
    save = scenc.Model.save
    monkeypatch.setattr(
        scenc.Model, "save", lambda *_, **__: (_ for _ in ()).throw(OSError("full"))
    )
    assert train("--overwrite")[0] == 1
    monkeypatch.setattr(scenc.Model, "save", save)
    code, _, err = train("--resume")
    assert (code, "with --resume, to go on" in err) == (1, True)
    assert train("--resume", "--overwrite")[0] == 0
    assert weights() == first

    shutil.rmtree(model)
    code, _, err = train()
    assert code == 1
    assert "pass --resume to go on with it, or --overwrite to train anew" in err
    assert train("--resume")[0] == 0
    assert weights() == first


@pytest.fixture(scope="module")
def store(files, tmp_path_factory):
    pytest.importorskip("annbatch", reason="needs annbatch, of the extra scenc[atlas]")
    out = tmp_path_factory.mktemp("store") / "atlas.zarr"
    return scenc.data.build_store(files, out, batch_key="donor", progress=False)


# A value for every option of a training that a store leaves to the user...
FREE = {"--out", "--gene-encoder", "--expression-encoder", "--preset", "--objective",
        "--protein-embeddings", "--max-epochs", "--cell-visits", "--batch-size", "--accumulate",
        "--devices", "--nodes", "--strategy", "--precision", "--checkpoint-every", "--resume",
        "--seed", "--overwrite", "--help"}  # fmt: skip
# ... and for every other.
FIXED = {
    "--layer": "raw",
    "--gene-ids": "names",
    "--genes": "intersection",
    "--batch-key": "kind",
    "--labels-key": "kind",
    "--split-by": "donor",
    "--validation-size": "0.5",
    "--check": "sample",
}


def test_every_option_is_for_a_store_or_known_not_to_be():
    command = typer.main.get_command(app).commands["train"]
    options = {max(p.opts, key=len) for p in command.params if p.param_type_name == "option"}
    assert options | {"--help"} == FREE | set(FIXED)


@pytest.mark.parametrize(("option", "value"), FIXED.items())
def test_what_a_store_was_built_with_cannot_be_changed(run, store, tmp_path, option, value):
    code, _, err = run("train", store, "--out", tmp_path / "model", option, value)
    assert code == 1
    assert f"{option} cannot apply: {store} is a store" in err
    assert "batches in 'donor', no labels" in err


def test_a_store_is_trained_on_alone_and_not_embedded(run, store, files, tmp_path, trained):
    trained.save(tmp_path / "saved")
    options = ["--objective", "masked", "--max-epochs", 1, "--batch-key", "donor"]
    code, out, err = run("train", store, "--out", tmp_path / "model", *options)
    assert (code, "wrote" in out) == (0, True), err
    code, _, err = run("train", store, files[0], "--out", tmp_path / "other", *options)
    assert (code, "is a store of many files: train on it by itself" in err) == (1, True)
    code, _, err = run("embed", tmp_path / "saved", store, "--out", tmp_path / "embedded")
    assert (code, "embed the files that it was built from" in err) == (1, True)


def test_layers_are_named_for_all_files_or_for_one(run, tmp_path, write_cells):
    first, second = tmp_path / "first.h5ad", tmp_path / "second.h5ad"
    write_cells(first, place="counts", seed=1)
    write_cells(second, place="umis", seed=2)
    options = ["--objective", "masked", "--max-epochs", 1, "--out", tmp_path / "model"]
    code, _, err = run("train", first, second, *options, "--layer", "counts")
    assert (code, "no matrix 'counts'" in err) == (1, True)
    code, out, err = run(
        "train", first, second, *options, "--layer", "counts", "--layer", f"{second}=umis"
    )
    assert (code, "100 cells" in out) == (0, True), err
    for wrong in (["counts", "umis"], [f"{tmp_path}/third.h5ad=umis"]):
        layers = [part for layer in wrong for part in ("--layer", layer)]
        code, _, err = run("train", first, second, *options, "--overwrite", *layers)
        assert (code, "--layer" in err) == (1, True)


def test_equal_names_in_different_folders_are_written_apart(run, tmp_path, make_adata, trained):
    trained.save(tmp_path / "model")
    paths = [tmp_path / sample / "outs" / "cells.h5ad" for sample in ("s1", "s2")]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True)
        make_adata()[number::2].copy().write_h5ad(path)
    code, _, err = run("embed", tmp_path / "model", *paths, "--out", tmp_path / "embedded")
    assert code == 0, err
    for number, name in enumerate(("s1_cells", "s2_cells")):
        found = anndata.read_h5ad(tmp_path / "embedded" / f"{name}.h5ad")
        assert found.obs_names.tolist() == [f"cell{i}" for i in range(number, 120, 2)]


def test_what_is_wrong_is_said_in_a_line(run, tmp_path):
    code, _, err = run("train", tmp_path / "none.h5ad", "--out", tmp_path / "model")
    assert code == 1
    assert "none.h5ad" in err
    code, _, err = run("embed", tmp_path, tmp_path / "none.h5ad", "--out", tmp_path / "embedded")
    assert code == 1
    assert "no saved scenc model" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "none", "cells.h5ad", "-o", "out"], "There is no folder none: name the one"),
        (["embed", "model", "none.h5ad", "-o", "out"], "There is no file none.h5ad."),
        (["embed", "model", "none.zarr", "-o", "out"], "There is no zarr store none.zarr."),
        (["embed", "model", "cells.h5ad", "-o", "done"], "pass --overwrite to replace it"),
        (["embed", "model", "cells.h5ad", "-o", "."], "is one of the files to read"),
        (["embed", "model", "cells.h5ad", "-o", "x", "--format", "csv"], "--format must be one of"),
        (["train", "none.h5ad", "-o", "out"], "There is no file none.h5ad."),
        (
            ["train", "cells.h5ad", "-o", "out", "--max-epochs", "1", "--cell-visits", "9"],
            "Give --max-epochs or --cell-visits, not both",
        ),
        (["train", "cells.h5ad", "-o", "model"], "pass --overwrite"),
        (["train", "cells.h5ad", "-o", "done"], "holds no scenc model: name another --out"),
        (["train", "cells.h5ad", "-o", "out", "--preset", "smal"], "Did you mean 'small'?"),
        (["train", "cells.h5ad", "-o", "out", "--objective", "mask"], "--objective must be one of"),
        (["train", "cells.h5ad", "-o", "out", "--gene-encoder", "protein"], "--protein-embeddings"),
        (["train", "cells.h5ad", "-o", "out", "--protein-embeddings", "x"], "--gene-encoder"),
        (["train", "cells.h5ad", "-o", "out", "--resume", "true"], "take no value"),
        (["train", "cells.h5ad", "-o", "out", "--layer", "a.h5ad=x"], "none of the files"),
        (["train", "cells.loom", "-o", "out"], "anndata.io.read_loom"),
        (["embed", "model", "cells.rds", "-o", "out"], "anndataR::write_h5ad(readRDS("),
    ],
)
def test_plain_errors_need_nothing_heavy(tmp_path, arguments, message):
    for name in ("cells.h5ad", "cells.loom", "cells.rds"):
        (tmp_path / name).touch()
    for folder, name in (("model", "model.json"), ("model", "weights.safetensors"),
                         ("done", "cells.h5ad")):  # fmt: skip
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).touch()
    code = (
        f"import sys; sys.argv = {['scenc', *arguments]!r}\n"
        "from scenc.cli import main\n"
        "try: main()\n"
        "except SystemExit as stopped: assert stopped.code == 1\n"
        "assert not {'torch', 'scvi', 'anndata', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_messages_speak_of_options():
    command = typer.main.get_command(app)
    said = {
        "x exists; pass overwrite=True to replace it.": "x exists; pass --overwrite to replace it.",
        "objective='masked' streams them.": "--objective masked streams them.",
        "name the layer (layer=...).": "name the layer (--layer).",
        "accumulate_grad_batches must be at least 1.": "--accumulate must be at least 1.",
        "obs has no column 'batch_key' in /a/batch_key.h5ad, batch_key.h5ad": (
            "obs has no column 'batch_key' in /a/batch_key.h5ad, batch_key.h5ad"
        ),
    }
    for message, expected in said.items():
        assert in_own_words(message, command) == expected


def test_help_needs_no_torch():
    code = (
        "import sys; from scenc.cli import app; from typer.testing import CliRunner; "
        "r = [CliRunner().invoke(app, [c, '--help']) for c in ('train', 'embed')]; "
        "assert all(x.exit_code == 0 for x in r), r; assert 'files' in r[0].output.lower(); "
        "assert not {'torch', 'scvi', 'anndata'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
