"""One file, from a server to a folder: resumed where it broke off, and kept only if it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

from scenc.datasets._http import BLOCK, Stopped, TransientError
from scenc.io import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import requests

    from scenc.datasets._http import Http
    from scenc.datasets._lock import Pin

_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


def transfer(pin: Pin, target: Path, http: Http, on_bytes: Callable[[int], object]) -> str:
    """Download a file, or the rest of it, and check it.

    Parameters
    ----------
    pin
        What to download, and its size and checksum as far as they are known.
    target
        Where to; until it is whole and checked the file has the suffix ``.part``.
    http
        Makes the requests.
    on_bytes
        Is told of every block by its number of bytes, and of a start from zero by a negative one.

    Returns
    -------
    The file's SHA-256.

    Raises
    ------
    RefusedError
        The server refuses, keeps failing, or keeps sending something else.
    OSError
        The file cannot be written.
    """
    part = Part(target, pin.url)
    on_bytes(part.size)
    patience = http.patience
    while True:
        before = part.size
        try:
            _continue(pin, part, http, on_bytes)
            digest = _check(pin, part)
        except TransientError as error:
            # Progress renews patience. It takes a whole block: a server that sends byte by byte
            # is given up, too.
            renewed = part.size >= before + BLOCK
            patience = http.wait_after(error, http.patience if renewed else patience, pin.url)
        except _WrongContent as error:
            on_bytes(-part.size)
            part.discard()
            patience = http.wait_after(TransientError(str(error)), patience, pin.url)
        else:
            part.move_to(target)
            return digest


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _WrongContent(Exception):
    """The bytes so far are not those of the file asked for: only a start from zero can help."""


class Part:
    """The beginning of a file that is being downloaded.

    Beside it, a note says which state of the file on the server it is the beginning of; without
    one it cannot be continued.

    Parameters
    ----------
    target
        The file that it will be.
    url
        Where it comes from.
    """

    def __init__(self, target: Path, url: str) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")
        self._url = url
        self.state = self._read_note()
        if self.state is None:
            self.discard()

    @property
    def size(self) -> int:
        """Number of bytes so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def begin(self, state: str | None) -> None:
        """Empty the part, and note which state of the file it will be a part of."""
        self.discard()
        self.state = state
        if state is not None:
            note = {"url": self._url, "state": state}
            self._note.write_text(json.dumps(note), encoding="utf-8")
        self.path.touch()

    def discard(self) -> None:
        """Delete the part."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def move_to(self, target: Path) -> None:
        """Give the file its name."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, target)
        self._note.unlink(missing_ok=True)

    def _read_note(self) -> str | None:
        try:
            note: Any = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(note, dict) or note.get("url") != self._url:
            return None
        state = note.get("state")
        return state if isinstance(state, str) else None


def _continue(pin: Pin, part: Part, http: Http, on_bytes: Callable[[int], object]) -> None:
    """Ask for the rest of a file and append it."""
    if pin.size is not None and part.size >= pin.size:
        return
    headers = {}
    if part.size and part.state is not None:
        headers = {"Range": f"bytes={part.size}-", "If-Range": part.state}
    with http.request("GET", pin.url, headers, accept={416}) as response:
        if response.status_code == 416:
            raise _WrongContent("the server has fewer bytes than have arrived already")
        if response.status_code != 206 or not headers:
            on_bytes(-part.size)
            part.begin(_state(response.headers))
        expected = _expected(response, part.size)
        if pin.size is not None and expected not in (None, pin.size):
            raise _WrongContent(f"{pin.size} bytes are expected, the server has {expected}")
        _append(response, part.path, pin.size or expected, http, on_bytes)
    if expected is not None and part.size < expected:
        raise TransientError(f"the connection ended after {part.size} of {expected} bytes")


def _append(
    response: requests.Response,
    path: Path,
    most: int | None,
    http: Http,
    on_bytes: Callable[[int], object],
) -> None:
    with path.open("ab") as file:
        for block in response.iter_content(BLOCK):
            if http.stop.is_set():
                raise Stopped
            file.write(block)
            on_bytes(len(block))
            if most is not None and file.tell() > most:
                raise _WrongContent(f"the server sends more than {most} bytes")


def _expected(response: requests.Response, start: int) -> int | None:
    """Return how long the file will be, as the server says."""
    if response.status_code == 206:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != start:
            raise _WrongContent("the server sends another part than was asked for")
        return None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() else None


def _state(headers: Mapping[str, str]) -> str | None:
    """Return what tells one state of the file from another; a weak tag does not."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _check(pin: Pin, part: Part) -> str:
    """Check a file that has arrived: its size, its checksum, and that it can be opened."""
    if pin.size is not None and part.size != pin.size:
        text = f"{part.size} bytes have arrived, {pin.size} are expected"
        raise TransientError(text) if part.size < pin.size else _WrongContent(text)
    digest = checksum(part.path)
    if pin.sha256 is not None and digest != pin.sha256:
        raise _WrongContent(f"the checksum is {digest}, {pin.sha256} is expected")
    try:
        with opened(part.path):
            pass
    except ValueError as error:
        raise _WrongContent(str(error)) from None
    return digest
