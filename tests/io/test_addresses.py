"""Files by address, and what is said when there is nothing to be had."""

from __future__ import annotations

import socket
import threading
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import scenc
from scenc.data import CellFiles, CellFilesError
from scenc.genes import read_gene_names
from scenc.io import open_file, read_anndata


class Handler(SimpleHTTPRequestHandler):
    """Serve files, whole or in ranges; some are not for everybody."""

    def do_GET(self):
        if "secret" in self.path:
            self.send_error(403)
            return
        path = self.translate_path(self.path)
        try:
            with open(path, "rb") as file:
                body = file.read()
        except OSError:
            self.send_error(404)
            return
        span = self.headers.get("Range")
        whole = len(body)
        self.send_response(206 if span else 200)
        if span:
            first, last = span.removeprefix("bytes=").split("-")
            stop = int(last) + 1 if last else whole
            self.send_header("Content-Range", f"bytes {first}-{min(stop, whole) - 1}/{whole}")
            body = body[int(first) : stop]
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self):
        if "secret" in self.path:
            self.send_error(403)
            return
        super().do_HEAD()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.filterwarnings("ignore:.* lacks .* of 60 genes:UserWarning")
def test_files_at_addresses_are_files(server, tmp_path, write_cells, trained):
    counts = write_cells(tmp_path / "a.h5ad").uns["counts"]
    address = f"{server}/a.h5ad"
    np.testing.assert_array_equal(read_anndata(address).X.toarray(), counts)
    cells = CellFiles([address], progress=False)
    assert cells.n_obs == 50
    assert read_gene_names(address)[0] == "FAKE0"
    (here,) = trained.embed_files([tmp_path / "a.h5ad"], tmp_path / "here", progress=False)
    (there,) = trained.embed_files([address], tmp_path / "there", progress=False)
    assert there.name == "a.h5ad"
    import anndata

    np.testing.assert_array_equal(
        anndata.read_h5ad(here).obsm["X_scenc"], anndata.read_h5ad(there).obsm["X_scenc"]
    )


def test_a_zarr_store_at_an_address_is_read(server, tmp_path, write_cells):
    counts = write_cells(tmp_path / "b.zarr").uns["counts"]
    np.testing.assert_array_equal(read_anndata(f"{server}/b.zarr").X.toarray(), counts)


@pytest.mark.parametrize("name", ["none.h5ad", "none.zarr"])
def test_a_missing_file_is_told_from_a_host_that_is_not_there(server, name):
    with pytest.raises(FileNotFoundError, match=r"the host 127.0.0.1:\d+ has no such file"):
        open_file(f"{server}/{name}")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(ConnectionError, match=r"the host 127.0.0.1:\d+ cannot be reached"):
            open_file(f"http://127.0.0.1:{port}/{name}")
        with pytest.raises((CellFilesError, ConnectionError), match="cannot be reached"):
            CellFiles([f"http://127.0.0.1:{port}/{name}"], progress=False)


def test_a_host_that_refuses_is_named(server, tmp_path, write_cells):
    write_cells(tmp_path / "secret.h5ad")
    with pytest.raises(ConnectionError, match="answers with status 403"):
        open_file(f"{server}/secret.h5ad")


def test_other_kinds_of_files_are_named_with_the_line_that_converts_them(tmp_path):
    for name, line in {
        "a.loom": "read_loom",
        "a.rds": "anndataR::write_h5ad",
        "a.h5seurat": "SeuratDisk::Convert",
        "a.csv": "read_csv",
        "a.tsv.gz": "read_text",
        "a.h5mu": "mudata.read_h5mu",
    }.items():
        (tmp_path / name).touch()
        with pytest.raises(CellFilesError, match=line):
            CellFiles([tmp_path / name], progress=False)
        with pytest.raises(ValueError, match=line):
            read_anndata(tmp_path / name)


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_a_mudata_is_named_whatever_its_ending(tmp_path, adata, ending):
    import mudata

    proteins = adata[:, :3].copy()
    proteins.var_names = ["P1", "P2", "P3"]
    mdata = mudata.MuData({"rna": adata, "prot": proteins})
    path = tmp_path / f"cells.{ending}"
    if ending == "zarr":
        with warnings.catch_warnings():
            # Of zarr's versions to come.
            warnings.simplefilter("ignore")
            mdata.write_zarr(path)
    else:
        mdata.write_h5mu(tmp_path / "cells.h5mu")
        (tmp_path / "cells.h5mu").rename(path)
    with pytest.raises(ValueError, match="is a MuData of rna, prot"):
        scenc.datasets.read_counts(path)
