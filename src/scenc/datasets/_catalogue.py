"""CELLxGENE's list of data sets and their versions, through its Curation API."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from scenc.datasets._http import RefusedError

if TYPE_CHECKING:
    from scenc.datasets._http import Http

API = "https://api.cellxgene.cziscience.com/curation/v1"


@dataclass(frozen=True, slots=True)
class Version:
    """One published version of a data set.

    Attributes
    ----------
    dataset_id, version_id
        Ids of the data set and of this version.
    title
        Its title.
    cells
        Number of cells.
    url
        Where its .h5ad file is.
    size
        The file's number of bytes.
    """

    dataset_id: str
    version_id: str
    title: str
    cells: int
    url: str
    size: int


class Catalogue:
    """Data sets and their versions, as the API lists them.

    Parameters
    ----------
    http
        Makes the requests.
    api
        Its base address.
    """

    def __init__(self, http: Http, api: str = API) -> None:
        self._http = http
        self._api = api.rstrip("/")
        self._listing: list[Version] | None = None
        self._lock = threading.Lock()

    def versions(self, dataset_id: str) -> list[Version]:
        """Return the published versions of a data set, the newest first; none if it is unknown.

        Raises
        ------
        RefusedError
            The API cannot be reached, refuses, or answers with something else.
        """
        url = f"{self._api}/datasets/{dataset_id}/versions"
        answer = self._http.get_json(url)
        if answer is None:
            return []
        entries = _entries(answer.get("datasets") if isinstance(answer, dict) else answer, url)
        if all(isinstance(entry.get("published_at"), str) for entry in entries):
            entries = sorted(entries, key=lambda entry: str(entry["published_at"]), reverse=True)
        return self._usable([{**entry, "dataset_id": dataset_id} for entry in entries], url)

    def listing(self) -> list[Version]:
        """Return the newest version of every data set; the API is asked once.

        Raises
        ------
        RefusedError
            As `versions`.
        """
        with self._lock:
            if self._listing is None:
                url = f"{self._api}/datasets"
                self._listing = self._usable(_entries(self._http.get_json(url), url), url)
            return self._listing

    def _usable(self, entries: list[dict[str, Any]], url: str) -> list[Version]:
        """Read the entries that can be read; a single odd one does not spoil the rest."""
        versions: list[Version] = []
        odd: RefusedError | None = None
        for entry in entries:
            try:
                versions.append(self._version(entry, url))
            except RefusedError as error:
                odd = odd or error
        if odd is not None and not versions:
            raise odd
        return versions

    def _version(self, entry: dict[str, Any], url: str) -> Version:
        asset = _asset(entry)
        if asset is None:
            raise RefusedError(f"{url}: an answer names no .h5ad file.")
        version = Version(
            dataset_id=_id(entry, "dataset_id", url),
            version_id=_id(entry, "dataset_version_id", url),
            title=str(entry.get("title") or ""),
            cells=_number(entry, "cell_count", url),
            url=str(asset.get("url")),
            size=_number(asset, "filesize", url),
        )
        self._http.check_address(version.url)
        return version


def _entries(answer: Any, url: str) -> list[dict[str, Any]]:
    if not isinstance(answer, list) or not all(isinstance(entry, dict) for entry in answer):
        raise RefusedError(f"{url}: the answer is no list of data sets; is the address right?")
    return answer


def _asset(entry: dict[str, Any]) -> dict[str, Any] | None:
    assets = entry.get("assets")
    for asset in assets if isinstance(assets, list) else ():
        if isinstance(asset, dict) and asset.get("filetype") == "H5AD":
            return asset
    return None


def _id(entry: dict[str, Any], key: str, url: str) -> str:
    """Return an id. It will be part of a file's name, so nothing else may pass."""
    value = entry.get(key)
    if not is_id(value):
        raise RefusedError(f"{url}: an answer has the {key} {value!r}, which is no id.")
    return str(value).lower()


def is_id(value: Any) -> bool:
    """Whether a value is a UUID written in the usual way."""
    try:
        return isinstance(value, str) and str(UUID(value)) == value.lower()
    except ValueError:
        return False


def _number(entry: dict[str, Any], key: str, url: str) -> int:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RefusedError(f"{url}: an answer has the {key} {value!r}, which is no number.")
    return value
