from __future__ import annotations

import hashlib
import threading

import pytest

from scenc.datasets._http import BLOCK, Http, RefusedError, Stopped
from scenc.datasets._lock import Pin
from scenc.datasets._transfer import transfer

PATH = "/cells.h5ad"


@pytest.fixture(scope="module")
def body(h5ad_bytes):
    content = h5ad_bytes()
    assert len(content) > 5 * BLOCK
    return content


class Download:
    """A transfer into a folder, and what it told of its progress."""

    def __init__(self, server, folder, body):
        self.target, self.heard = folder / "cells.h5ad", []
        self.part = folder / "cells.h5ad.part"
        self.http = Http(3, 5, allow_http=True)
        self.pin = Pin("cells.h5ad", server.url + PATH, "cells", size=len(body))

    def __call__(self, **changes):
        pin = Pin(**{**{name: getattr(self.pin, name) for name in Pin.__slots__}, **changes})
        return transfer(pin, self.target, self.http, self.heard.append)

    def left_over(self):
        return sorted(path.name for path in self.target.parent.iterdir())


@pytest.fixture
def download(server, tmp_path, body):
    server.bodies[PATH] = body
    return Download(server, tmp_path, body)


def test_a_file_arrives_whole_with_its_checksum(server, download, body):
    assert download() == hashlib.sha256(body).hexdigest()
    assert download.target.read_bytes() == body
    assert download.left_over() == ["cells.h5ad"]
    assert sum(download.heard) == len(body)
    assert server.requests(PATH) == [("GET", None)]


def test_a_broken_connection_is_taken_up_where_it_broke(server, download, body, tricks):
    server.tricks[PATH] = [tricks.break_after(3 * BLOCK), tricks.break_after(BLOCK + 100)]
    download()
    assert download.target.read_bytes() == body
    assert server.requests(PATH) == [
        ("GET", None),
        ("GET", f"bytes={3 * BLOCK}-"),
        ("GET", f"bytes={4 * BLOCK}-"),
    ]
    assert sum(download.heard) == len(body)


def test_progress_renews_patience(server, download, body, tricks):
    # More breaks than the three failures in a row that are put up with.
    server.tricks[PATH] = [tricks.break_after(BLOCK)] * 5
    download()
    assert download.target.read_bytes() == body


def test_a_server_that_sends_byte_by_byte_is_given_up(server, download, tricks):
    server.tricks[PATH] = [tricks.break_after(1)] * 100
    with pytest.raises(RefusedError, match=r"\(4 times\)"):
        download()
    assert len(server.requests(PATH)) == 4


def test_another_process_takes_up_what_one_has_left(server, download, tmp_path, body, tricks):
    server.tricks[PATH] = [tricks.break_after(3 * BLOCK), *[tricks.send(503, b"")] * 4]
    with pytest.raises(RefusedError, match="answered 503"):
        download()
    assert download.part.stat().st_size == 3 * BLOCK
    assert not download.target.exists()
    again = Download(server, tmp_path, body)
    again()
    assert again.target.read_bytes() == body
    assert server.requests(PATH)[-1] == ("GET", f"bytes={3 * BLOCK}-")
    assert sum(again.heard) == len(body)


def test_a_file_that_has_changed_in_between_is_begun_anew(
    server, download, tmp_path, h5ad_bytes, tricks
):
    server.tricks[PATH] = [tricks.break_after(3 * BLOCK), *[tricks.send(503, b"")] * 4]
    with pytest.raises(RefusedError):
        download()
    changed = h5ad_bytes(seed=1)
    server.bodies[PATH] = changed
    again = Download(server, tmp_path, changed)
    again()
    assert again.target.read_bytes() == changed
    assert sum(again.heard) == len(changed)


def test_without_a_tag_of_the_file_nothing_is_taken_up(server, download, body, tricks):
    server.tags[PATH] = 'W/"weak"'
    server.tricks[PATH] = [tricks.send(200, body[: 2 * BLOCK], len(body))]
    download()
    assert download.target.read_bytes() == body
    assert server.requests(PATH) == [("GET", None), ("GET", None)]


def test_a_part_of_another_address_is_not_taken_up(server, download, body):
    download.part.write_bytes(b"x" * BLOCK)
    note = download.part.with_name("cells.h5ad.part.json")
    for odd in ('{"url": "https://else.where", "state": "\\"tag\\""}', "[]", "{", '{"url": 1}'):
        note.write_text(odd)
        download()
        assert download.target.read_bytes() == body
        assert server.requests(PATH)[-1] == ("GET", None)
        download.part.write_bytes(b"x" * BLOCK)


def test_a_server_that_ignores_ranges_sends_all_again(server, download, body, tricks):
    server.tricks[PATH] = [tricks.break_after(2 * BLOCK), tricks.send(200, ETag='"other"')]
    download()
    assert download.target.read_bytes() == body
    assert sum(download.heard) == len(body)


def test_another_part_than_asked_for_is_not_appended(server, download, body, tricks):
    span = {"Content-Range": f"bytes 7-{len(body) - 1}/{len(body)}"}
    server.tricks[PATH] = [
        tricks.break_after(2 * BLOCK),
        tricks.send(206, body[7:], **span),
        tricks.break_after(2 * BLOCK),
        tricks.send(206, body[2 * BLOCK :]),
    ]
    download()
    assert download.target.read_bytes() == body
    assert sum(download.heard) == len(body)


def test_a_size_that_the_catalogue_does_not_name_is_refused(server, download, body):
    for size in (len(body) - 5, len(body) + 5):
        with pytest.raises(
            RefusedError, match=rf"{size} bytes are expected, the server has {len(body)} \(4 times"
        ):
            download(size=size)
        assert download.left_over() == []


def test_a_short_answer_that_calls_itself_whole_is_refused(server, download, body, tricks):
    server.tricks[PATH] = [tricks.send(200, body[:-100])]
    download()
    assert download.target.read_bytes() == body


def test_an_answer_without_length_that_ends_early_is_not_taken(server, download, body, tricks):
    cut = tricks.without_length(body[: 2 * BLOCK])
    server.tricks[PATH] = [cut]
    download()
    assert download.target.read_bytes() == body
    server.tricks[PATH] = [cut] * 4
    with pytest.raises(RefusedError, match=f"{2 * BLOCK} bytes have arrived, {len(body)} are exp"):
        download()


def test_an_unknown_size_is_made_up_for_by_the_look_into_the_file(server, download, body, tricks):
    server.tricks[PATH] = [tricks.without_length(body[: 2 * BLOCK])]
    download(size=None)
    assert download.target.read_bytes() == body
    assert len(server.requests(PATH)) == 2


def test_more_than_was_promised_is_cut_off(server, download, body, tricks):
    flood = tricks.without_length(body + b"x" * 10_000_000)
    server.tricks[PATH] = [flood]
    download()
    assert download.target.read_bytes() == body
    assert max(download.heard) <= BLOCK
    assert sum(block for block in download.heard if block > 0) < 2 * len(body) + 2 * BLOCK


@pytest.mark.parametrize("wrong", ["html", "zeros", "cut"])
def test_the_right_number_of_wrong_bytes_is_refused(server, download, body, tricks, wrong):
    content = {
        "html": b"<html>".ljust(len(body)),
        "zeros": body[:100].ljust(len(body), b"\0"),
        "cut": body[:-100],
    }[wrong]
    server.tricks[PATH] = [tricks.send(200, content)] * 4
    with pytest.raises(RefusedError, match=r"\(4 times\)"):
        download(size=len(content))
    assert download.left_over() == []


def test_another_content_than_the_lock_file_names_is_refused(server, download, h5ad_bytes, body):
    expected = hashlib.sha256(body).hexdigest()
    altered = bytearray(body)
    altered[len(body) // 2] ^= 1
    server.bodies[PATH] = bytes(altered)
    with pytest.raises(RefusedError, match=f"{expected} is expected"):
        download(sha256=expected)
    assert download.left_over() == []
    server.bodies[PATH] = body
    assert download(sha256=expected) == expected


def test_what_is_not_there_or_forbidden_is_not_asked_for_again(server, download):
    del server.bodies[PATH]
    with pytest.raises(RefusedError, match="answered 404 Not Found"):
        download()
    assert len(server.requests(PATH)) == 1


def test_a_redirection_to_a_place_without_encryption_is_refused(server, download, tricks):
    server.tricks[PATH] = [tricks.send(302, b"", Location="ftp://127.0.0.1/cells.h5ad")]
    with pytest.raises(RefusedError, match="ftp"):
        download()


def test_a_full_disk_is_not_taken_for_a_bad_connection(server, download, monkeypatch):
    from scenc.datasets import _transfer

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_transfer, "_append", full)
    with pytest.raises(OSError, match="No space left"):
        download()
    assert len(server.requests(PATH)) == 1


def test_a_stop_ends_it_and_keeps_what_has_arrived(server, download, body):
    def hear(n_bytes):
        download.heard.append(n_bytes)
        if sum(download.heard) >= 2 * BLOCK:
            download.http.stop.set()

    with pytest.raises(Stopped):
        transfer(download.pin, download.target, download.http, hear)
    assert download.part.read_bytes() == body[: 2 * BLOCK]


def test_a_stop_ends_a_pause(server, download, tricks):
    server.tricks[PATH] = [tricks.send(503, b"", **{"Retry-After": "50"})]
    threading.Timer(0.2, download.http.stop.set).start()
    with pytest.raises(Stopped):
        download()
