"""Requests that are repeated where that can help, and answers that no repetition mends."""

from __future__ import annotations

import json
import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Pause before the first repetition, in seconds; it doubles each time up to the longest.
_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_GONE = frozenset({404, 410})
_MAX_JSON = 512 * 2**20
BLOCK = 64 * 2**10


class TransientError(Exception):
    """A failure after which the same request may succeed.

    Parameters
    ----------
    reason
        What happened.
    pause
        Seconds the server asks to wait, if it does.
    """

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class RefusedError(Exception):
    """A failure that stays, however often the request is made."""


class Stopped(Exception):
    """The user has stopped the download."""


class Patience:
    """How long failures of one request are put up with.

    Parameters
    ----------
    http
        The way to the server.
    url
        What is asked for.
    """

    def __init__(self, http: Http, url: str) -> None:
        self._http = http
        self._url = url
        self._n_failures = 0

    def after(self, error: TransientError, progressed: bool = False) -> None:
        """Pause after a failure; one after some progress counts as the first.

        Raises
        ------
        RefusedError
            There have been too many in a row.
        Stopped
            The user has stopped the download.
        """
        self._n_failures = 1 if progressed else self._n_failures + 1
        if self._n_failures > self._http.retries:
            self._http.give_up(self._url, str(error))
            raise RefusedError(f"{self._url}: {error} ({self._n_failures} times)") from error
        pause = _PAUSE * 2 ** (self._n_failures - 1) * random.uniform(0.5, 1)
        if self._http.stop.wait(min(_LONGEST_PAUSE, max(pause, error.pause or 0))):
            raise Stopped


class Http:
    """The way to a server: requests in one thread or several, with one measure of patience.

    Parameters
    ----------
    retries
        How often in a row a request may fail and be repeated.
    timeout
        Seconds without any answer after which a request has failed.
    allow_http
        Whether addresses without encryption are accepted.
    """

    def __init__(self, retries: int, timeout: float, allow_http: bool) -> None:
        self.retries = retries
        self._timeout = timeout
        self._schemes = ("https", "http") if allow_http else ("https",)
        # Servers that have answered at all, and those that were given up without an answer.
        self._reached: set[str] = set()
        self._out_of_reach: dict[str, str] = {}
        self.stop = threading.Event()

    def get_json(self, url: str) -> Any:
        """Return the parsed answer, ``None`` if there is nothing at the address.

        Raises
        ------
        RefusedError
            The server refuses, or fails at every repetition.
        """
        return self._repeat("GET", url, _parse)

    def head(self, url: str) -> Mapping[str, str] | None:
        """Return the headers of what is at an address, ``None`` if there is nothing.

        Raises
        ------
        RefusedError
            As `get_json`.
        """
        headers: Mapping[str, str] | None = self._repeat("HEAD", url, lambda found: found.headers)
        return headers

    def _repeat(self, method: str, url: str, read: Callable[[requests.Response], Any]) -> Any:
        patience = Patience(self, url)
        while True:
            try:
                with self.request(method, url) as response:
                    if response.status_code in _GONE:
                        return None
                    check_status(response)
                    return read(response)
            except TransientError as error:
                patience.after(error)

    def give_up(self, url: str, reason: str) -> None:
        """Spare other requests to a server that has never answered the same patience."""
        server = urlsplit(url).netloc
        if server not in self._reached:
            self._out_of_reach.setdefault(server, f"{server} cannot be reached: {reason}")

    @contextmanager
    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None
    ) -> Iterator[requests.Response]:
        """Make one request; breaks of the connection, also while reading, are transient.

        Raises
        ------
        TransientError
            The connection failed.
        RefusedError
            The address is none, or not encrypted.
        """
        from scenc import __version__

        # Counts and sizes refer to the bytes of the file, not to a compressed form of them.
        common = {"User-Agent": f"scenc/{__version__}", "Accept-Encoding": "identity"}
        self.check_address(url)
        server = urlsplit(url).netloc
        if server in self._out_of_reach:
            raise RefusedError(self._out_of_reach[server])
        try:
            with requests.request(
                method,
                url,
                headers={**common, **(headers or {})},
                timeout=self._timeout,
                stream=True,
                allow_redirects=True,
            ) as response:
                self._reached.add(server)
                self.check_address(response.url)
                yield response
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise TransientError(_reason(error)) from error
        except requests.RequestException as error:
            raise RefusedError(f"{url}: {error}") from error

    def check_address(self, url: str) -> None:
        """Refuse an address that is none, or not encrypted.

        Raises
        ------
        RefusedError
            The message names it.
        """
        parts = urlsplit(url)
        if parts.scheme not in self._schemes or not parts.hostname:
            raise RefusedError(f"{url!r} is no address that begins with https://.")


def check_status(response: requests.Response) -> None:
    """Raise for an answer that is an error.

    Raises
    ------
    TransientError
        The server is busy or has failed.
    RefusedError
        It refuses.
    """
    if response.ok:
        return
    said = f"the server answered {response.status_code} {response.reason or ''}".rstrip()
    if response.status_code in _BUSY:
        raise TransientError(said, _seconds(response.headers.get("Retry-After")))
    raise RefusedError(f"{response.url}: {said}")


def _parse(response: requests.Response) -> Any:
    body = bytearray()
    for block in response.iter_content(BLOCK):
        body += block
        if len(body) > _MAX_JSON:
            raise RefusedError(f"{response.url}: the answer is longer than {_MAX_JSON} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        begin = bytes(body[:60]).decode("utf-8", "replace")
        raise TransientError(f"the answer is no JSON ({error}): {begin!r}") from None


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() else None


def _reason(error: Exception) -> str:
    """Return the innermost reason of a failure, which says most in fewest words."""
    while error.__cause__ is not None or error.__context__ is not None:
        inner = error.__cause__ or error.__context__
        if not isinstance(inner, Exception):
            break
        error = inner
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
