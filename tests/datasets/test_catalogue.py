from __future__ import annotations

import json

import pytest

from scenc.datasets._catalogue import Catalogue
from scenc.datasets._http import Http, RefusedError

ID = "7d98cc44-b090-4dc8-804f-2750c84fe9d7"
OTHER = "2d66790a-6621-4a49-8f0d-4002db5cc98d"
VERSIONS = f"/curation/v1/datasets/{ID}/versions"


@pytest.fixture
def catalogue(server):
    return Catalogue(Http(2, 5, allow_http=True), server.api)


def test_versions_come_newest_first_with_their_h5ad(server, catalogue):
    old = server.add_dataset(ID, b"12345", cells=5)
    new = server.add_dataset(ID, b"1234567", cells=7)
    found = catalogue.versions(ID)
    assert [version.url for version in found] == [server.url + new, server.url + old]
    assert [(version.size, version.cells) for version in found] == [(7, 7), (5, 5)]
    assert found[0].dataset_id == ID
    assert f"/{found[0].version_id}.h5ad" == new


def test_an_unknown_data_set_has_no_versions(catalogue):
    assert catalogue.versions(OTHER) == []


def test_the_list_is_asked_for_once_and_leaves_out_what_has_no_file(server, catalogue):
    server.add_dataset(ID, b"1", cells=5)
    server.add_dataset(OTHER, b"1", cells=5, assets=[])
    assert [version.dataset_id for version in catalogue.listing()] == [ID]
    catalogue.listing()
    assert len(server.requests("/curation/v1/datasets")) == 1


def test_an_answer_may_wrap_the_list(server, catalogue):
    server.add_dataset(ID, b"1", cells=5)
    server.bodies[VERSIONS] = b'{"datasets": %b}' % server.bodies[VERSIONS]
    assert len(catalogue.versions(ID)) == 1


def test_failures_that_pass_are_waited_for(server, catalogue, tricks):
    server.add_dataset(ID, b"1", cells=5)
    whole = server.bodies[VERSIONS]
    for passing in (
        [tricks.send(503, b"busy"), tricks.send(429, b"slow", **{"Retry-After": "0"})],
        [tricks.hang_up, tricks.hang_up],
        [tricks.send(200, whole[:20], len(whole))],
        [tricks.without_length(whole[:20])],
        [tricks.send(200, b"<html>Please log in</html>")],
    ):
        server.tricks[VERSIONS] = list(passing)
        n_before = len(server.requests(VERSIONS))
        assert len(catalogue.versions(ID)) == 1
        assert len(server.requests(VERSIONS)) - n_before == len(passing) + 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"<html>", r"the answer is no JSON .*'<html>' \(3 times\)"),
        (b'[{"dataset_id": "7d98', r"the answer is no JSON"),
        (b"[" * 100_000, r"the answer is no JSON"),
        (b"\xff\xfe\x00", r"the answer is no JSON"),
        (b"{}", "is no list of data sets"),
        (b'"text"', "is no list of data sets"),
        (b"[1, 2]", "is no list of data sets"),
    ],
)
def test_answers_that_stay_malformed_are_refused(server, catalogue, answer, said):
    server.bodies[VERSIONS] = answer
    with pytest.raises(RefusedError, match=said):
        catalogue.versions(ID)


def test_an_endless_answer_does_not_fill_the_memory(server, catalogue, monkeypatch):
    monkeypatch.setattr("scenc.datasets._http._MAX_JSON", 1000)
    server.bodies[VERSIONS] = b"[" + b" " * 100_000 + b"]"
    with pytest.raises(RefusedError, match="the answer is longer than 1000 bytes"):
        catalogue.versions(ID)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset_version_id": "../../etc/passwd"}, "dataset_version_id '../../etc/passwd'"),
        ({"dataset_version_id": None}, "dataset_version_id None"),
        ({"cell_count": "many"}, "cell_count 'many'"),
        ({"cell_count": True}, "cell_count True"),
        ({"filesize": -1}, "filesize -1"),
        ({"filesize": 1.5}, "filesize 1.5"),
        ({"url": "file:///etc/passwd"}, "'file:///etc/passwd' is no address"),
        ({"url": None}, "'None' is no address"),
        ({"assets": None}, r"names no \.h5ad file"),
        ({"assets": [7]}, r"names no \.h5ad file"),
    ],
)
def test_odd_entries_are_refused_but_do_not_spoil_others(server, catalogue, change, said):
    server.add_dataset(ID, b"1", cells=5)
    entries = json.loads(server.bodies[VERSIONS])
    odd = json.loads(server.bodies[VERSIONS])[0]
    for key, value in change.items():
        (odd["assets"][1] if key in ("filesize", "url") else odd)[key] = value
    server.bodies[VERSIONS] = json.dumps([odd]).encode()
    with pytest.raises(RefusedError, match=said):
        catalogue.versions(ID)
    server.bodies[VERSIONS] = json.dumps([odd, *entries]).encode()
    assert len(catalogue.versions(ID)) == 1


def test_addresses_without_encryption_are_refused_where_the_api_has_it(server):
    server.add_dataset(ID, b"1", cells=5)
    with pytest.raises(RefusedError, match="is no address that begins with https://"):
        Catalogue(Http(0, 5, allow_http=False), server.api).versions(ID)


def test_a_refusal_is_not_repeated(server, catalogue, tricks):
    server.tricks[VERSIONS] = [tricks.send(403, b"no")]
    with pytest.raises(RefusedError, match="answered 403 Forbidden"):
        catalogue.versions(ID)
    assert len(server.requests(VERSIONS)) == 1


def test_a_server_that_never_answers_is_given_up_once_for_all(server, tricks):
    http = Http(2, 5, allow_http=True)
    other = f"/curation/v1/datasets/{OTHER}/versions"
    server.tricks[VERSIONS] = [tricks.hang_up] * 3
    with pytest.raises(RefusedError, match=r"\(3 times\)"):
        Catalogue(http, server.api).versions(ID)
    with pytest.raises(RefusedError, match="127.0.0.1:.* cannot be reached"):
        Catalogue(http, server.api).versions(OTHER)
    assert server.requests(other) == []
