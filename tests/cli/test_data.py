"""``scenc data``, run as a user runs it, against a server on this machine."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anndata
import pandas as pd
import pytest
from typer.testing import CliRunner

import scenc
from scenc.cli import app, main
from scenc.datasets import _http

ID = "7d98cc44-b090-4dc8-804f-2750c84fe9d7"


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process: exit code, output, errors."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["scenc", "data", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return call


@pytest.fixture
def api(adata, tmp_path, monkeypatch):
    """Serve one data set, as CELLxGENE's API does."""
    monkeypatch.setattr(_http, "_PAUSE", 0.001)
    # A proxy of the user's is not for this machine; the lower case, where it is set, goes first.
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    adata.write_h5ad(tmp_path / "made.h5ad")
    body = (tmp_path / "made.h5ad").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            url = f"http://127.0.0.1:{self.server.server_port}/{ID}.h5ad"
            entry = {"dataset_id": ID, "dataset_version_id": ID, "cell_count": 120, "title": "Few"}
            entry["assets"] = [{"filetype": "H5AD", "filesize": len(body), "url": url}]
            answer = {
                f"/datasets/{ID}/versions": json.dumps([entry]).encode(),
                "/datasets": json.dumps([entry]).encode(),
                f"/{ID}.h5ad": body,
            }.get(self.path)
            self.send_response(200 if answer else 404)
            self.send_header("Content-Length", str(len(answer or b"")))
            self.end_headers()
            self.wfile.write(answer or b"")

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("command", [[], ["list"], ["download"], ["build"]])
def test_every_command_has_help(command):
    result = CliRunner().invoke(app, ["data", *command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_no_command_waits_for_torch_or_scvi():
    code = (
        "import sys; sys.argv = ['scenc', 'data', 'list']\n"
        "from scenc.cli import app; app(standalone_mode=False)\n"
        "import scenc.datasets._download\n"
        "assert not {'scvi', 'torch', 'scanpy', 'lightning'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True)


def test_the_paper_s_data_sets_are_listed(run):
    code, out, _ = run("list")
    assert code == 0
    assert len(out.splitlines()) == 101 + 3
    assert "101 data sets, 10,010,855 cells" in out
    code, out, _ = run("list", "--rows", "1-3,26", "--kind", "methylation")
    assert "1 data sets, 163,779 cells" in out
    code, out, _ = run("list", "tabula-sapiens")
    assert out.splitlines() == scenc.datasets.tissues().index.tolist()


def test_the_list_can_be_read_by_machines(run):
    _, out, _ = run("list", "--tsv")
    table = pd.read_csv(io.StringIO(out), sep="\t", index_col="row")
    assert table["paper_id"].tolist() == scenc.datasets.pretraining()["paper_id"].tolist()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--rows", "1-102"], "there are rows 1 to 101, not 102"),
        (["list", "--rows", "one"], "--rows must look like 1-5,9; 'one' does not"),
        (["list", "--kind", "dna"], "--kind must be one of"),
        (["list", "pretrain"], "Did you mean 'pretraining'?"),
        (["list", "tabula-sapiens", "--rows", "1"], "rows of 'pretraining' only"),
        (["download", "bladder", "--rows", "1"], "rows of 'pretraining' only"),
        (["download", "blader"], "Did you mean 'bladder'?"),
    ],
)
def test_bad_input_is_one_line(run, arguments, said):
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert said in err


def test_a_dry_run_writes_nothing_and_a_run_writes_a_file(run, api, tmp_path):
    out_folder = tmp_path / "out"
    arguments = ("download", ID, "--api", api, "--out", out_folder)
    code, out, _ = run(*arguments, "--dry-run")
    assert code == 0
    assert "to download" in out
    assert "1 to download; 120 cells" in out
    assert not out_folder.exists()

    code, out, _ = run(*arguments)
    assert code == 0
    assert "1 downloaded; 120 cells" in out
    assert anndata.read_h5ad(out_folder / f"{ID}.h5ad").n_obs == 120
    assert (out_folder / "scenc-datasets.lock.json").is_file()


def test_rows_that_cannot_be_found_are_said_and_failures_exit_with_an_error(run, api, tmp_path):
    arguments = ("--api", api, "--out", tmp_path / "out", "--retries", "0")
    code, out, err = run("download", "pretraining", "--rows", "1,2", "--dry-run", *arguments)
    assert code == 0
    assert "1 to download, 1 not found" in out
    code, out, err = run("download", ID.replace("7d", "7e"), *arguments)
    assert code == 1
    assert "1 not found" in out
    assert f"nearest id: {ID} at 1 edits" in err
    assert err.strip().splitlines()[-1].startswith("Error: 1 of 1 data sets were not downloaded")


def test_build_writes_a_store_or_says_what_is_wrong(run, adata, tmp_path):
    pytest.importorskip("annbatch", reason="needs annbatch, of the extra scenc[atlas]")
    adata.write_h5ad(tmp_path / "a.h5ad")
    out_path = tmp_path / "atlas.zarr"
    arguments = ("build", tmp_path / "a.h5ad", "--out", out_path)
    code, out, _ = run(*arguments, "--batch-key", "batch", "--validation-size", "0.25")
    assert code == 0
    assert f"wrote {out_path}: 120 cells (90 train, 30 validation, 0 test) x 60 genes" in out
    code, _, err = run(*arguments)
    assert code == 1
    assert "pass --overwrite" in err
    code, _, err = run("build", tmp_path / "absent.h5ad", "--out", tmp_path / "b.zarr")
    assert code == 1
    assert "There is no file" in err


def test_build_takes_layers_by_file_and_says_plain_errors_at_once(run, adata, tmp_path):
    pytest.importorskip("annbatch", reason="needs annbatch, of the extra scenc[atlas]")
    adata.layers["counts"], adata.X = adata.X.copy(), adata.X * 0.5
    first, second = tmp_path / "a.h5ad", tmp_path / "b.h5ad"
    adata.write_h5ad(first)
    adata.layers["umis"] = adata.layers.pop("counts")
    adata.write_h5ad(second)
    store = tmp_path / "s.zarr"
    layers = ["--layer", "counts", "--layer", f"{second}=umis"]
    code, out, err = run("build", first, second, "--out", store, *layers)
    assert (code, "240 cells" in out) == (0, True), err
    for arguments, message in (
        ([first, "--out", store], "pass --overwrite to replace the store there"),
        ([first, "--out", tmp_path / "s.h5ad"], "a store ends in .zarr"),
        ([store, "--out", tmp_path / "t.zarr"], "name the files that it was built from"),
        ([first, "--out", tmp_path / "t.zarr", "--genes", "all"], "--genes must be one of"),
    ):
        code, _, err = run("build", *arguments)
        assert (code, message in err) == (1, True), err
