"""Requests that are repeated where that can help, and answers that no repetition mends."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError
from urllib3.util import Retry

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

# Seconds. The first repetition comes at once, the second after a pause, which then doubles.
_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_GONE = frozenset({404, 410})
BLOCK = 64 * 2**10
_MAX_JSON = 512 * 2**20


class TransientError(Exception):
    """A failure after which the same request may succeed."""


class RefusedError(Exception):
    """A failure that stays, however often the request is made."""


class Stopped(Exception):
    """The user has stopped the download."""


class Patience(Retry):
    """How often a request is repeated, and how long to wait before; a stop ends the wait.

    Parameters
    ----------
    stop
        Set when the user has stopped the download.
    """

    def __init__(self, *args: Any, stop: threading.Event, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._stop = stop

    def new(self, **settings: Any) -> Patience:
        """Copy with other settings; urllib3 counts failures in copies."""
        return super().new(stop=self._stop, **settings)

    def sleep(self, response: Any = None) -> None:
        """Wait as long as the server asks to, or as the number of failures says."""
        asked = self.get_retry_after(response) if response is not None else None
        pause = max(asked or 0.0, self.get_backoff_time())
        if self._stop.wait(min(pause, _LONGEST_PAUSE)):
            raise Stopped


class Http:
    """Requests from one thread or several, all repeated by the same rules.

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
        from scenc import __version__

        self.stop = threading.Event()
        self.patience = Patience(
            retries,
            status_forcelist=_BUSY,
            backoff_factor=_PAUSE / 2,
            backoff_jitter=_PAUSE / 2,
            raise_on_status=False,
            stop=self.stop,
        )
        self._times = f"({retries + 1} times)"
        self._timeout = timeout
        self._schemes = ("https", "http") if allow_http else ("https",)
        # Servers that have answered at all, and those that were given up without an answer.
        self._reached: set[str] = set()
        self._out_of_reach: dict[str, str] = {}
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"scenc/{__version__}"
        # Counts and sizes refer to the bytes of the file, not to a compressed form of them.
        self._session.headers["Accept-Encoding"] = "identity"
        for scheme in self._schemes:
            adapter = HTTPAdapter(max_retries=self.patience, pool_maxsize=64)
            self._session.mount(f"{scheme}://", adapter)

    def get_json(self, url: str) -> Any:
        """Return the parsed answer, ``None`` if there is nothing at the address.

        Raises
        ------
        RefusedError
            The server refuses, or fails at every repetition.
        """
        patience = self.patience
        while True:
            try:
                with self.request("GET", url, accept=_GONE) as response:
                    return None if response.status_code in _GONE else _parse(response)
            except TransientError as error:
                patience = self.wait_after(error, patience, url)

    def head(self, url: str) -> Mapping[str, str] | None:
        """Return the headers of what is at an address, ``None`` if there is nothing.

        Raises
        ------
        RefusedError
            As `get_json`.
        """
        with self.request("HEAD", url, accept=_GONE) as response:
            return None if response.status_code in _GONE else response.headers

    @contextmanager
    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
    ) -> Iterator[requests.Response]:
        """Make a request, repeated while the server cannot be reached or is busy.

        Parameters
        ----------
        method, url, headers
            The request.
        accept
            Statuses of errors that the caller deals with.

        Raises
        ------
        TransientError
            The connection broke while the answer was read.
        RefusedError
            The address is none, or not encrypted; or the server refuses, or is never there.
        """
        self.check_address(url)
        server = urlsplit(url).netloc
        if server in self._out_of_reach:
            raise RefusedError(self._out_of_reach[server])
        try:
            response = self._session.request(
                method, url, headers=headers, timeout=self._timeout, stream=True
            )
        except requests.ConnectionError as error:
            if server not in self._reached:
                # Spare other requests the same patience.
                said = f"{server} cannot be reached: {_reason(error)}"
                self._out_of_reach.setdefault(server, said)
            raise RefusedError(f"{url}: {_reason(error)} {self._times}") from error
        except requests.RequestException as error:
            raise RefusedError(f"{url}: {error}") from error
        with response:
            self._reached.add(server)
            self.check_address(response.url)
            if not response.ok and response.status_code not in accept:
                said = f"the server answered {response.status_code} {response.reason or ''}"
                times = self._times if response.status_code in _BUSY else ""
                raise RefusedError(f"{response.url}: {said.rstrip()} {times}".rstrip())
            try:
                yield response
            except requests.RequestException as error:
                raise TransientError(_reason(error)) from error

    def wait_after(self, error: TransientError, patience: Patience, url: str) -> Patience:
        """Pause after a broken answer; return the patience that is left.

        Raises
        ------
        RefusedError
            There is none left.
        Stopped
            The user has stopped the download.
        """
        try:
            patience = patience.increment("GET", url, error=error)
        except MaxRetryError:
            raise RefusedError(f"{url}: {error} {self._times}") from error
        patience.sleep()
        return patience

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


def _parse(response: requests.Response) -> Any:
    body = bytearray()
    for block in response.iter_content(BLOCK):
        body += block
        # A hostile or broken server must not fill the memory.
        if len(body) > _MAX_JSON:
            raise RefusedError(f"{response.url}: the answer is longer than {_MAX_JSON} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        begin = bytes(body[:60]).decode("utf-8", "replace")
        raise TransientError(f"the answer is no JSON ({error}): {begin!r}") from None


def _reason(error: Exception) -> str:
    """Return the innermost reason of a failure, which says most in fewest words."""
    while isinstance(inner := error.__cause__ or error.__context__, Exception):
        error = inner
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
