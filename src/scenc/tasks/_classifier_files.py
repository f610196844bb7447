"""The two files of a saved classifier: plain values as JSON, and arrays as safetensors."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from scenc import __version__
from scenc.io import ModelFileError, atomic_folder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT, VERSION = "scenc-label-classifier", 1
_CARD, _ARRAYS = "classifier.json", "classifier.safetensors"


def is_classifier(folder: Path) -> bool:
    """Return whether a folder looks like a saved classifier, and may be replaced by one."""
    return (folder / _CARD).is_file()


def write_classifier(folder: Path, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Write a classifier's values and arrays into a folder, which appears whole or not at all."""
    with atomic_folder(folder) as draft:
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            draft / _ARRAYS,
        )
        digest = hashlib.sha256((draft / _ARRAYS).read_bytes()).hexdigest()
        card = {"format": FORMAT, "version": VERSION, "scenc": __version__, "sha256": digest}
        text = json.dumps(card | values, indent=1, allow_nan=False)
        (draft / _CARD).write_text(text, encoding="utf-8")


def read_classifier(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `write_classifier` has written: values and arrays, not yet looked at.

    Raises
    ------
    FileNotFoundError
        The folder or one of its files is missing.
    ModelFileError
        A file is damaged, foreign or of a newer version.
    """
    card = _read_card(folder)
    try:
        return card, load_file(folder / _ARRAYS)
    except SafetensorError as error:
        raise ModelFileError(f"{folder / _ARRAYS} is damaged: {error}.") from None


def _read_card(folder: Path) -> dict[str, Any]:
    for name in (_CARD, _ARRAYS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no saved classifier: {name} is missing.")
    try:
        card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{folder / _CARD} is damaged: {error}.") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ModelFileError(f"{folder / _CARD} does not describe a classifier of scenc.")
    if card.get("version") != VERSION:
        raise ModelFileError(
            f"{folder} is of format version {card.get('version')!r}; this scenc reads {VERSION}."
        )
    digest = hashlib.sha256((folder / _ARRAYS).read_bytes()).hexdigest()
    if card.get("sha256") != digest:
        raise ModelFileError(
            f"{folder / _ARRAYS} is not the file that {_CARD} describes (checksums differ)."
        )
    return card
