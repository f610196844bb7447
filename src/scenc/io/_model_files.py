"""A model on disk: weights as safetensors, all else as JSON; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from scenc._paths import MODEL_FILES, SHARED_FILES, model_files, require_model
from scenc.io._atomic import atomic_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

FORMAT = "scenc-model"
VERSION = 2
# A table of the genes for people and other programs; all that scenc reads is in the JSON.
GENES = "genes.tsv"
# Bytes of JSON; of the largest models it has some tens of millions.
_MAX_CARD = 2**28


class ModelFileError(ValueError):
    """A saved model is incomplete, damaged or not one of ours.

    Examples
    --------
    >>> import shutil
    >>> from pathlib import Path
    >>> folder = Path(shutil.copytree("pbmc_model", "damaged_model"))
    >>> (folder / "model.json").write_text("{}")
    2
    >>> try:
    ...     scenc.Model.load(folder)
    ... except scenc.model.ModelFileError as error:
    ...     print(error)
    damaged_model/model.json does not describe a scenc model.
    """


def write_model(
    path: Path,
    card: dict[str, Any],
    weights: dict[str, torch.Tensor],
    overwrite: bool,
    texts: Mapping[str, str] | None = None,
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
    texts
        Further files of a model that is to be shared, by name; it then has the names of files that
        are usual there. Of `GENES` the checksum is kept.

    Raises
    ------
    FileExistsError
        The folder exists and may not be replaced.
    """
    if path.exists():
        if not overwrite:
            raise FileExistsError(f"{path} exists; pass overwrite=True to replace the model there.")
        if not _holds_model(path):
            raise FileExistsError(f"{path} exists and holds no scenc model: it is not replaced.")
    from safetensors.torch import save_file

    card_name, weights_name = MODEL_FILES if texts is None else SHARED_FILES
    with atomic_folder(path) as draft:
        save_file({name: w.contiguous() for name, w in weights.items()}, draft / weights_name)
        for name, text in (texts or {}).items():
            (draft / name).write_text(text, encoding="utf-8", newline="\n")
        signed = {"sha256": _digest(draft / weights_name)}
        if (draft / GENES).is_file():
            signed["genes_sha256"] = _digest(draft / GENES)
        card = {"format": FORMAT, "version": VERSION, **signed, **card}
        (draft / card_name).write_text(
            json.dumps(card, indent=1, allow_nan=False), encoding="utf-8"
        )


def read_unsigned_card(file: Path) -> dict[str, Any]:
    """Read what a model's file says of the model, whatever the other files are.

    Raises
    ------
    ModelFileError
        The JSON is damaged, foreign, or from a newer version.
    """
    size = file.stat().st_size
    if size > _MAX_CARD:
        raise ModelFileError(f"{file} has {size:,} bytes: no model needs so many.")
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelFileError(f"{file} is damaged: {error}.") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ModelFileError(f"{file} does not describe a scenc model.")
    if card.get("version") != VERSION:
        raise ModelFileError(
            f"{file.parent} is of format version {card.get('version')!r}; this scenc reads "
            f"{VERSION}."
        )
    return card


def read_card(path: Path) -> dict[str, Any]:
    """Read what a model's folder says of itself.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or it lacks a file.
    ModelFileError
        The JSON is damaged, foreign, or from a newer version; or another file is not the one that
        it describes.
    """
    require_model(path)
    card_name, weights_name = model_files(path)
    card = read_unsigned_card(path / card_name)
    signed = {"sha256": weights_name}
    # The table of genes may be missing; if it is there, it must be the right one.
    if (path / GENES).is_file():
        signed["genes_sha256"] = GENES
    for key, name in signed.items():
        if card.get(key) != _digest(path / name):
            raise ModelFileError(
                f"{path / name} is not the file that {card_name} describes (checksums differ)."
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
        raise ModelFileError(f"{path / model_files(path)[0]} holds no list of genes.")
    return names


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes of a model's weights without reading the weights."""
    from safetensors import SafetensorError, safe_open

    file_path = path / model_files(path)[1]
    try:
        with safe_open(file_path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelFileError(f"{file_path} is damaged: {error}.") from None


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a model's weights."""
    from safetensors.torch import load_file

    return load_file(path / model_files(path)[1])


def weights_digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of the file that `write_model` writes of weights."""
    from safetensors.torch import save

    plain = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    return hashlib.sha256(save(plain)).hexdigest()


def _holds_model(path: Path) -> bool:
    """Whether a folder is of a scenc model; other programs have a ``config.json``, too."""
    if (path / MODEL_FILES[0]).is_file():
        return True
    try:
        read_unsigned_card(path / SHARED_FILES[0])
    except (OSError, ModelFileError):
        return False
    return True


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
