"""A server on this machine that behaves as badly as it is told to."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from scenc.datasets import _http


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        server = self.server
        with server.guard:
            server.log.append((self.command, self.path, self.headers.get("Range")))
            tricks = server.tricks.get(self.path, [])
            trick = tricks.pop(0) if tricks else None
        body = server.bodies.get(self.path)
        if callable(trick):
            trick(self, body)
        elif body is None:
            self.reply(404, b"nothing here")
        else:
            self.whole_or_range(body)

    def whole_or_range(self, body):
        tag = self.server.tags.get(self.path, f'"{hash(body)}"')
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match is None or self.headers.get("If-Range") not in (None, tag):
            self.reply(200, body, ETag=tag)
        elif int(match[1]) >= len(body):
            self.reply(416, b"")
        else:
            start = int(match[1])
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self.reply(206, body[start:], **{"ETag": tag, "Content-Range": span})

    def reply(self, status, body, length=None, **headers):
        """Send an answer, with a true length or another one; then hang up if it was not true."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if length is not None:
            self.close_connection = True

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    """Bodies by path, and tricks by path: functions that answer the next requests instead."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies, self.tricks, self.tags, self.log = {}, {}, {}, []
        self.guard = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.api = f"{self.url}/curation/v1"

    def handle_error(self, request, client_address):
        """Clients hang up when they have seen enough."""

    def requests(self, path):
        return [(method, span) for method, asked, span in self.log if asked == path]

    def add_json(self, path, content):
        self.bodies[f"/curation/v1{path}"] = json.dumps(content).encode()

    def add_dataset(self, dataset_id, body, version_id=None, cells=None, **fields):
        """Publish a version of a data set; later ones are newer."""
        known = json.loads(self.bodies.get(f"/curation/v1/datasets/{dataset_id}/versions", b"[]"))
        version_id = version_id or f"{len(known):07x}{dataset_id[0]}{dataset_id[8:]}"
        entry = {
            "dataset_id": dataset_id,
            "dataset_version_id": version_id,
            "title": f"Cells of {dataset_id[:4]}",
            "cell_count": cells,
            "published_at": f"2025-01-{len(known) + 1:02d}",
            "assets": [
                {"filetype": "RDS", "filesize": 1, "url": f"{self.url}/no.rds"},
                {
                    "filetype": "H5AD",
                    "filesize": len(body),
                    "url": f"{self.url}/{version_id}.h5ad",
                },
            ],
            **fields,
        }
        self.bodies[f"/{version_id}.h5ad"] = body
        # The API does not say in its answers' order which version is the newest.
        self.add_json(f"/datasets/{dataset_id}/versions", [*known, entry])
        listing = json.loads(self.bodies.get("/curation/v1/datasets", b"[]"))
        others = [other for other in listing if other["dataset_id"] != dataset_id]
        self.add_json("/datasets", [*others, entry])
        return f"/{version_id}.h5ad"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(_http, "_PAUSE", 0.001)
    # A proxy of the user's is not for this machine; the lower case, where it is set, goes first.
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def break_after(n_bytes):
    """Promise all, send some, hang up."""

    def trick(handler, body):
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        rest = body[start:]
        headers = {"ETag": f'"{hash(body)}"'}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        handler.reply(206 if start else 200, rest[:n_bytes], length=len(rest), **headers)

    return trick


def send(status=200, body=None, length=None, **headers):
    """Send something else."""
    return lambda handler, true: handler.reply(
        status, true if body is None else body, length, **headers
    )


def without_length(body):
    """Send something without saying how long it is, and hang up."""

    def trick(handler, _):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return trick


def hang_up(handler, _):
    """Send nothing at all."""
    handler.close_connection = True


class Tricks:
    break_after = staticmethod(break_after)
    send = staticmethod(send)
    without_length = staticmethod(without_length)
    hang_up = staticmethod(hang_up)


@pytest.fixture
def tricks():
    return Tricks


@pytest.fixture(scope="session")
def h5ad_bytes(make_adata, make_counts, tmp_path_factory):
    """Return a maker of .h5ad files as CELLxGENE has them: counts in raw, logarithms in X."""
    import numpy as np
    import scipy.sparse as sp

    folder = tmp_path_factory.mktemp("h5ad")

    def make(n_cells=2000, seed=0, raw=True, obs=None):
        counts = sp.csr_matrix(make_counts(n_cells, 60, seed))
        adata = make_adata(counts)
        for name, column in (obs or {}).items():
            adata.obs[name] = column
        if raw:
            adata.raw = adata.copy()
        adata.X = sp.csr_matrix(np.log1p(counts) * 0.7)
        adata.write_h5ad(folder / "made.h5ad")
        return (folder / "made.h5ad").read_bytes()

    return make
