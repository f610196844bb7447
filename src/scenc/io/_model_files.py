"""A model on disk: weights as safetensors, all else as JSON; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from scenc._paths import MODEL_FILES, require_model
from scenc.io._atomic import atomic_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

FORMAT = "scenc-model"
VERSION = 2
_CARD, _WEIGHTS = MODEL_FILES


class ModelFileError(ValueError):
    """A saved model is incomplete, damaged or not one of ours."""


def write_model(
    path: Path, card: dict[str, Any], weights: dict[str, torch.Tensor], overwrite: bool
) -> None:
    """Write a model's folder, whole or not at all.

    Parameters
    ----------
    path
        The folder.
    card
        Everything but the weights, as plain values.
    weights
        Named tensors.
    overwrite
        Whether an existing folder may be replaced; only a model's folder ever is.

    Raises
    ------
    FileExistsError
        The folder exists and may not be replaced.
    """
    if path.exists():
        if not overwrite:
            raise FileExistsError(f"{path} exists; pass overwrite=True to replace the model there.")
        if not (path / _CARD).is_file():
            raise FileExistsError(f"{path} exists and holds no scenc model: it is not replaced.")
    from safetensors.torch import save_file

    with atomic_folder(path) as draft:
        save_file({name: w.contiguous() for name, w in weights.items()}, draft / _WEIGHTS)
        card = {
            "format": FORMAT,
            "version": VERSION,
            "sha256": _digest(draft / _WEIGHTS),
            **card,
        }
        (draft / _CARD).write_text(json.dumps(card, indent=1, allow_nan=False), encoding="utf-8")


def read_card(path: Path) -> dict[str, Any]:
    """Read what a model's folder says of itself.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or it lacks a file.
    ModelFileError
        The JSON is damaged, foreign, or from a newer version.
    """
    require_model(path)
    try:
        card = json.loads((path / _CARD).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelFileError(f"{path / _CARD} is damaged: {error}.") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ModelFileError(f"{path / _CARD} does not describe a scenc model.")
    if card.get("version") != VERSION:
        raise ModelFileError(
            f"{path} is of format version {card.get('version')!r}; this scenc reads {VERSION}."
        )
    if card.get("sha256") != _digest(path / _WEIGHTS):
        raise ModelFileError(
            f"{path / _WEIGHTS} is not the file that {_CARD} describes (checksums differ)."
        )
    return card


def read_vocabulary(path: Path) -> list[str]:
    """Read the genes a model knows.

    Raises
    ------
    FileNotFoundError, ModelFileError
        As `read_card`.
    """
    names = read_card(path).get("vocabulary")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelFileError(f"{path / _CARD} holds no list of genes.")
    return names


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes of a model's weights without reading the weights."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path / _WEIGHTS, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelFileError(f"{path / _WEIGHTS} is damaged: {error}.") from None


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a model's weights."""
    from safetensors.torch import load_file

    return load_file(path / _WEIGHTS)


def weights_digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of the file that `write_model` writes of weights."""
    from safetensors.torch import save

    plain = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    return hashlib.sha256(save(plain)).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
