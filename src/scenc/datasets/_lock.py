"""The lock file: which version of each data set a folder holds, so that others get the same."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from scenc.io import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

FORMAT, VERSION = "scenc-datasets", 1
NAME = "scenc-datasets.lock.json"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.h5ad")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Pin:
    """One file of a folder.

    Attributes
    ----------
    file
        Its name.
    url
        Where it comes from.
    asked
        The id (perhaps misprinted) or tissue that it was asked for by.
    size
        Number of bytes; ``None`` until known.
    sha256
        Checksum of its content; ``None`` until it was once downloaded.
    dataset_id, version_id
        Ids in CELLxGENE; ``None`` for files from elsewhere.
    title
        Title of the data set.
    cells
        Number of cells as the catalogue says; ``None`` if it does not.
    """

    file: str
    url: str
    asked: str
    size: int | None = None
    sha256: str | None = None
    dataset_id: str | None = None
    version_id: str | None = None
    title: str = ""
    cells: int | None = None


class LockFile:
    """The pins of a folder, on disk.

    Parameters
    ----------
    path
        The file; it need not exist.

    Raises
    ------
    ValueError
        The file is damaged or not a lock file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._pins = {pin.file: pin for pin in _read(path)} if path.exists() else {}

    def find(self, asked: str) -> Pin | None:
        """Return the pin of what was asked for before, if it was."""
        return next((pin for pin in self._pins.values() if pin.asked == asked), None)

    def put(self, *pins: Pin) -> None:
        """Add or replace pins, and write the file."""
        with self._lock:
            self._pins.update({pin.file: pin for pin in pins})
            content = {
                "format": FORMAT,
                "version": VERSION,
                "files": [asdict(self._pins[file]) for file in sorted(self._pins)],
            }
            with atomic_path(self.path) as draft:
                draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> list[Pin]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}. Restore it, or delete it.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is no lock file of scenc.datasets.")
    if content.get("version") != VERSION:
        raise ValueError(f"{path} is of version {content.get('version')!r}; {VERSION} is read.")
    entries = content.get("files")
    return [_pin(entry, path) for entry in (entries if isinstance(entries, list) else [entries])]


def _pin(entry: Any, path: Path) -> Pin:
    """Check an entry: it may come from somebody else, and names a file to write."""
    known = {field.name for field in fields(Pin)}
    good = (
        isinstance(entry, dict)
        and set(entry) <= known
        and _matches(_FILE_NAME, entry.get("file"))
        and all(isinstance(entry.get(key), str) for key in ("url", "asked"))
        and _number_or_none(entry.get("size"))
        and _number_or_none(entry.get("cells"))
        and (entry.get("sha256") is None or _matches(_SHA256, entry["sha256"]))
        and all(isinstance(entry.get(key) or "", str) for key in ("dataset_id", "version_id"))
        and isinstance(entry.get("title", ""), str)
    )
    if not good:
        raise ValueError(f"{path} is damaged: it has the entry {str(entry)[:200]}.")
    return Pin(**entry)


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _number_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)
