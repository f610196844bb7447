from __future__ import annotations

import hashlib
import json
import signal
import threading
from collections import namedtuple

import pandas as pd
import pytest
from filelock import FileLock

import scenc
from scenc.datasets import DownloadError, _download, _fetch, download, pretraining
from scenc.datasets._http import BLOCK
from scenc.datasets._transfer import transfer

IDS = [f"{i}d98cc44-b090-4dc8-804f-2750c84fe9d7" for i in range(1, 4)]
LOCK = "scenc-datasets.lock.json"


@pytest.fixture(scope="module")
def bodies(h5ad_bytes):
    return [h5ad_bytes(n_cells, seed=n_cells) for n_cells in (1500, 1600, 1700)]


@pytest.fixture
def published(server, bodies):
    """Publish three data sets; return the paths of their files on the server."""
    return [
        server.add_dataset(name, body, cells=cells)
        for name, body, cells in zip(IDS, bodies, (1500, 1600, 1700), strict=True)
    ]


@pytest.fixture
def fetch(server, tmp_path):
    """Download into a folder, quietly."""

    def run(what, folder="data", **settings):
        settings = {"progress": False, "retries": 2, "api": server.api, **settings}
        return download(what, tmp_path / folder, **settings)

    return run


def states(report):
    return [entry.state for entry in report.entries]


def test_files_arrive_and_the_lock_file_says_which(server, published, bodies, fetch, tmp_path):
    report = fetch(IDS)
    assert states(report) == ["downloaded"] * 3
    assert [path.read_bytes() for path in report.paths] == bodies
    assert [path.name for path in report.paths] == [f"{name}.h5ad" for name in IDS]
    assert report.n_bytes == sum(map(len, bodies))
    assert [(entry.counts, entry.cells) for entry in report.entries] == [
        ("raw/X", 1500),
        ("raw/X", 1600),
        ("raw/X", 1700),
    ]
    pins = json.loads((tmp_path / "data" / LOCK).read_text())["files"]
    assert [pin["url"] for pin in pins] == [server.url + path for path in published]
    assert [pin["sha256"] for pin in pins] == [hashlib.sha256(b).hexdigest() for b in bodies]
    assert not list((tmp_path / "data").glob("*.part*"))


def test_what_is_there_is_not_asked_for_again(server, published, fetch):
    fetch(IDS)
    server.log.clear()
    assert states(fetch(IDS)) == ["already there"] * 3
    assert server.log == []


def test_the_lock_file_holds_a_version_until_an_update(server, published, fetch, h5ad_bytes):
    fetch(IDS[0])
    newer = h5ad_bytes(1400)
    server.add_dataset(IDS[0], newer, cells=1400)
    assert states(fetch(IDS[0])) == ["already there"]
    report = fetch(IDS[0], update=True)
    assert states(report) == ["downloaded"]
    assert report.paths[0].read_bytes() == newer
    assert states(fetch(IDS[0], update=True)) == ["already there"]


def test_another_folder_with_the_lock_file_gets_the_same(
    server, published, bodies, fetch, tmp_path, h5ad_bytes
):
    fetch(IDS[0])
    server.add_dataset(IDS[0], h5ad_bytes(1400), cells=1400)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / LOCK).write_text((tmp_path / "data" / LOCK).read_text())
    assert fetch(IDS[0], "other").paths[0].read_bytes() == bodies[0]

    altered = bytearray(bodies[0])
    altered[len(altered) // 2] ^= 1
    server.bodies[published[0]] = bytes(altered)
    (tmp_path / "other" / f"{IDS[0]}.h5ad").unlink()
    with pytest.raises(DownloadError, match="the checksum is"):
        fetch(IDS[0], "other")


def test_verify_finds_a_file_that_has_changed(published, bodies, fetch, tmp_path):
    fetch(IDS[0])
    path = tmp_path / "data" / f"{IDS[0]}.h5ad"
    damaged = bytearray(bodies[0])
    damaged[-10] ^= 1
    path.write_bytes(damaged)
    assert states(fetch(IDS[0])) == ["already there"]
    assert states(fetch(IDS[0], verify=True)) == ["downloaded"]
    assert path.read_bytes() == bodies[0]
    path.write_bytes(bodies[0][:-1])
    assert states(fetch(IDS[0])) == ["downloaded"]


def test_a_dry_run_says_what_would_come_and_writes_nothing(
    server, published, bodies, fetch, tmp_path
):
    plan = fetch(IDS, dry_run=True)
    assert states(plan) == ["to download"] * 3
    assert plan.n_bytes == sum(map(len, bodies))
    assert plan.paths == []
    assert not (tmp_path / "data").exists()
    assert not any(path.endswith(".h5ad") for _, path, _ in server.log)
    fetch(IDS[1])
    assert states(fetch(IDS, dry_run=True)) == ["to download", "already there", "to download"]
    total = f"{sum(map(len, bodies)) / 1e6:.3g} MB"
    assert f"1 already there, 2 to download; 4,800 cells, {total}" in str(
        plan := fetch(IDS, dry_run=True)
    )
    assert plan.to_frame()["size"].tolist() == [len(body) for body in bodies]


def test_one_failure_leaves_the_others_and_the_next_call_goes_on(
    server, published, bodies, fetch, tricks
):
    server.tricks[published[1]] = [tricks.break_after(2 * BLOCK), *[tricks.send(503, b"")] * 3]
    with pytest.raises(DownloadError, match=f"1 of 3 .* {IDS[1]}: .*answered 503") as raised:
        fetch(IDS)
    report = raised.value.report
    assert states(report) == ["downloaded", "failed", "downloaded"]
    assert len(report.paths) == 2
    server.log.clear()
    assert states(fetch(IDS)) == ["already there", "downloaded", "already there"]
    assert [(path, span) for _, path, span in server.log] == [(published[1], f"bytes={2 * BLOCK}-")]


def test_breaks_everywhere_at_once_are_survived(server, published, bodies, fetch, tricks):
    for path in published:
        server.tricks[path] = [tricks.hang_up, tricks.break_after(BLOCK), tricks.send(500, b"")] * 2
    for name in IDS:
        server.tricks[f"/curation/v1/datasets/{name}/versions"] = [tricks.hang_up] * 2
    report = fetch(IDS, workers=3, retries=3)
    assert [path.read_bytes() for path in report.paths] == bodies


def paper(*rows):
    """Rows as pretraining() has them: printed id, id, cells."""
    columns = ["paper_id", "dataset_id", "paper_cells", "kind", "note"]
    index = pd.RangeIndex(1, len(rows) + 1, name="row")
    return pd.DataFrame([(*row, "rna", None) for row in rows], index, columns)


def test_rows_of_the_paper_are_found_by_near_ids_or_listed(server, published, fetch):
    slip = IDS[1].replace("b090", "b09o")
    nowhere = "99999999-9999-4999-8999-999999999999"
    table = paper((IDS[0], IDS[0], 1500), (slip, None, 1600), (nowhere, None, 1700))
    report = fetch(table)
    assert states(report) == ["downloaded", "downloaded", "not found"]
    assert report.entries[1].dataset_id == IDS[1]
    assert f"at 1 edits from {slip}" in report.entries[1].note
    assert f"with 1,700 cells: {IDS[2]}" in report.entries[2].note
    server.log.clear()
    assert states(fetch(table)) == ["already there", "already there", "not found"]
    assert not any(slip in path for _, path, _ in server.log)


def test_two_rows_never_share_a_file(server, published, fetch):
    slip = IDS[0].replace("b090", "b09o")
    report = fetch(paper((IDS[0], IDS[0], 1500), (slip, None, 1500)), workers=1)
    assert states(report) == ["downloaded", "not found"]
    assert report.entries[1].note == "the same as row 1"


def test_a_mistyped_id_is_an_error_that_names_the_nearest(published, fetch):
    with pytest.raises(DownloadError, match=f"not found; nearest id: {IDS[0]} at 1 edits"):
        fetch(IDS[0].replace("b090", "b091"))


def test_names_are_read_or_refused():
    with pytest.raises(ValueError, match="Did you mean 'bladder'"):
        download("blader", dry_run=True)
    with pytest.raises(ValueError, match="nothing to download"):
        download([], dry_run=True)
    with pytest.raises(TypeError, match=r"must be \(rows of\).*has the columns a"):
        download(pd.DataFrame({"a": [1]}), dry_run=True)
    with pytest.raises(ValueError, match="workers must be at least 1"):
        download("bladder", workers=0, dry_run=True)


def test_all_of_the_paper_can_be_asked_for(server, fetch):
    """An empty catalogue: every id is asked for, and the list once."""
    server.add_json("/datasets", [])
    report = fetch("pretraining", dry_run=True)
    assert states(report) == ["not found"] * 101
    assert [entry.kind for entry in report.entries] == pretraining()["kind"].tolist()
    asked = {path.split("/")[4] for _, path, _ in server.log if path.endswith("/versions")}
    assert set(pretraining()["dataset_id"].dropna()) <= asked
    assert len(server.requests("/curation/v1/datasets")) == 1


def test_matrices_that_hold_no_counts_are_said_so(server, fetch, h5ad_bytes):
    server.add_dataset(IDS[0], h5ad_bytes(1000, raw=False), cells=999)
    report = fetch(IDS[0])
    assert report.paths == []
    entry = report.entries[0]
    assert entry.counts is None
    assert "the file holds no counts: raw/X is not there; X holds fractions" in entry.note
    assert "the catalogue says 999 cells" in entry.note


def test_spots_outside_of_the_tissue_are_counted(server, fetch, h5ad_bytes):
    inside = [i % 4 > 0 for i in range(1000)]
    server.add_dataset(IDS[0], h5ad_bytes(1000, obs={"in_tissue": list(map(int, inside))}), cells=1)
    entry = fetch(IDS[0]).entries[0]
    assert entry.n_off_tissue == 250
    assert "250 of 1,000 spots lie outside of the tissue" in entry.note


def test_too_small_a_disk_is_seen_before_anything_comes(server, published, fetch, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 1000)
    monkeypatch.setattr(_download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="are to be downloaded, but .*data has room for 1 kB"):
        fetch(IDS)
    assert server.requests(published[0]) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is damaged"),
        ("[]", "is no lock file"),
        ('{"format": "scenc-datasets", "version": 9}', "is of version 9"),
        ('{"format": "scenc-datasets", "version": 1, "files": 3}', "has the entry 3"),
    ],
)
def test_a_lock_file_that_is_none_is_refused(published, fetch, tmp_path, content, said):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / LOCK).write_text(content)
    with pytest.raises(ValueError, match=said):
        fetch(IDS[0])


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../evil.h5ad"},
        {"file": "/tmp/evil.h5ad"},
        {"file": ".hidden.h5ad"},
        {"file": "evil.sh"},
        {"sha256": "abc"},
        {"size": "7"},
        {"size": True},
        {"url": None},
        {"title": 7},
        {"surprise": 1},
    ],
)
def test_a_lock_file_from_somebody_else_cannot_reach_out_of_the_folder(
    published, fetch, tmp_path, change
):
    fetch(IDS[0])
    path = tmp_path / "data" / LOCK
    content = json.loads(path.read_text())
    content["files"][0].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="is damaged: it has the entry"):
        fetch(IDS[0])
    assert not (tmp_path / "evil.h5ad").exists()


def test_two_downloads_into_one_folder_take_turns(
    server, published, fetch, tmp_path, caplog, monkeypatch
):
    (tmp_path / "data").mkdir()
    guard = FileLock(tmp_path / "data" / f".{LOCK}.guard")
    held, waits = threading.Event(), threading.Event()
    warn = _download.logger.warning

    def hear(*args):
        warn(*args)
        waits.set()

    def hold():
        with guard:
            held.set()
            waits.wait(60)

    monkeypatch.setattr(_download.logger, "warning", hear)
    threading.Thread(target=hold).start()
    held.wait()
    assert states(fetch(IDS)) == ["downloaded"] * 3
    assert "waiting for it" in caplog.text


def test_an_interrupt_ends_all_threads_and_keeps_the_parts(
    server, published, bodies, fetch, tmp_path, monkeypatch
):
    interrupted = threading.Event()

    def transfer_until_interrupt(pin, target, http, on_bytes):
        def hear(n_bytes):
            if n_bytes == 0:
                return
            if not interrupted.is_set():
                interrupted.set()
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            # Slower than the interrupt, which the main thread must see first.
            assert http.stop.wait(60)
            on_bytes(n_bytes)

        return transfer(pin, target, http, hear)

    monkeypatch.setattr(_fetch, "transfer", transfer_until_interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(IDS)
    assert not list((tmp_path / "data").glob("*.h5ad"))
    parts = list((tmp_path / "data").glob("*.part"))
    assert 0 < sum(part.stat().st_size for part in parts) < len(bodies[0])
    monkeypatch.undo()
    server.log.clear()
    assert [path.read_bytes() for path in fetch(IDS).paths] == bodies
    assert any(span for _, _, span in server.log)


@pytest.fixture
def bladder(server, monkeypatch, h5ad_bytes):
    """Publish a tissue from both sources on the local server."""
    donors = [f"TSP{i % 5 + 14}" for i in range(1000)]
    server.bodies["/bladder.h5ad"] = h5ad_bytes(1000, obs={"10X_run": donors})
    server.bodies["/all.h5ad"] = h5ad_bytes(1000, seed=5, obs={"donor_id": donors})
    table = pd.DataFrame(
        {"url": [f"{server.url}/bladder.h5ad"], "cellxgene_url": [f"{server.url}/all.h5ad"]},
        pd.Index(["bladder"], name="tissue"),
    )
    from scenc.datasets import _tabula_sapiens

    def local(*args, **settings):
        return download(*args, **settings, api=server.api, retries=1)

    monkeypatch.setattr(_tabula_sapiens, "tissues", lambda: table)
    monkeypatch.setattr(_tabula_sapiens, "download", local)
    return donors


def test_a_tissue_is_downloaded_once_and_read_with_its_counts(
    server, bladder, tmp_path, make_counts
):
    for _ in range(2):
        adata = scenc.datasets.tabula_sapiens("bladder", tmp_path, progress=False)
        assert (adata.X.toarray() == make_counts(1000, 60, 0)).all()
        assert adata.obs["10X_run"].tolist() == bladder
    assert server.requests("/bladder.h5ad") == [("HEAD", None), ("GET", None)]
    scenc.Model.setup_anndata(adata, batch_key="10X_run", labels_key="cell_type")


def test_of_all_donors_the_new_ones_are_kept(bladder, tmp_path):
    adata = scenc.datasets.tabula_sapiens("bladder", tmp_path, source="cellxgene", progress=False)
    assert sorted(adata.obs["donor_id"].unique()) == ["TSP17", "TSP18"]
    assert adata.n_obs == 400
    assert (tmp_path / "tabula_sapiens_bladder_all_donors.h5ad").exists()


def test_unknown_tissues_and_sources_are_refused(bladder, tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'bladder'"):
        scenc.datasets.tabula_sapiens("Bladder", tmp_path)
    with pytest.raises(ValueError, match="source must be one of"):
        scenc.datasets.tabula_sapiens("bladder", tmp_path, source="figshare")


def test_a_tissue_that_has_moved_is_an_error(server, bladder, tmp_path):
    del server.bodies["/bladder.h5ad"]
    with pytest.raises(DownloadError, match=r"bladder: There is nothing at http.*bladder\.h5ad"):
        scenc.datasets.tabula_sapiens("bladder", tmp_path, progress=False)
