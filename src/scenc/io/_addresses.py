"""What goes wrong at an address, in words: a host that does not answer is no missing file."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

# Errors of aiohttp and botocore, which need not be installed.
_UNREACHABLE = ("ClientConnectorError", "ClientConnectorDNSError", "ServerDisconnectedError",
                "ServerTimeoutError", "ConnectionTimeoutError", "EndpointConnectionError",
                "ConnectTimeoutError", "FSTimeoutError")  # fmt: skip
_MISSING = (404, 410)


@contextmanager
def explained(address: str) -> Iterator[None]:
    """Turn errors of opening an address into one that says what is wrong.

    Raises
    ------
    FileNotFoundError
        The host has no such file.
    ConnectionError
        The host cannot be reached, or does not hand the file out.
    ImportError
        A package for addresses of this kind is missing.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{address} cannot be read: {error}") from error
    except Exception as error:
        message = _explain(address, list(_chain(error)))
        if message is None:
            raise
        raise message from error


def _explain(address: str, errors: list[BaseException]) -> OSError | None:
    host = urlsplit(address).netloc or address
    for error in errors:
        known = isinstance(error, ConnectionError | TimeoutError | socket.gaierror)
        if known or type(error).__name__ in _UNREACHABLE:
            return ConnectionError(
                f"{address}: the host {host} cannot be reached ({error}). Is the address right, "
                "and this computer connected?"
            )
    for error in errors:
        status = getattr(error, "status", None)
        if isinstance(status, int) and status not in _MISSING:
            return ConnectionError(f"{address}: the host {host} answers with status {status}.")
        if isinstance(error, PermissionError):
            return ConnectionError(f"{address}: the host {host} does not allow to read it.")
    if any(isinstance(error, FileNotFoundError) for error in errors):
        return FileNotFoundError(f"{address}: the host {host} has no such file.")
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
