from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

_EXPECTED = (
    "It must be a folder with config.json, vocab.txt and safetensors weights, or the name of such "
    "a model on the Hugging Face Hub. Weights as pytorch_model.bin are pickles: pass "
    "safetensors_only=False if you trust them."
)
_UNUSED = ("pooler.", "contact_head.", "position_ids", "inv_freq")


@dataclass(frozen=True)
class Window:
    """A stretch of a protein as the model sees it.

    Parameters
    ----------
    sequence
        Residues shown to the model.
    start, stop
        The residues among them that count; the others are context.
    """

    sequence: str
    start: int
    stop: int


def cut(sequence: str, window: int, overlap: int) -> list[Window]:
    """Cut a protein into windows so that every residue counts exactly once.

    The protein is divided into stretches of about equal length, and each is shown with up to
    ``overlap`` residues of context on either side, ``window`` residues at most.
    """
    length = len(sequence)
    if length <= window:
        return [Window(sequence, 0, length)]
    parts = -(-length // (window - 2 * overlap))
    edges = [length * part // parts for part in range(parts + 1)]
    windows = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        left, right = max(start - overlap, 0), min(stop + overlap, length)
        windows.append(Window(sequence[left:right], start - left, stop - left))
    return windows


class Esm:
    """An ESM-2 model that turns windows into sums over residues.

    Parameters
    ----------
    name
        Hub id or folder.
    device
        ``"auto"`` or a torch device.
    dtype
        ``"auto"``, ``"float32"``, ``"float16"`` or ``"bfloat16"``.
    safetensors_only
        Whether to refuse pickled weights.
    revision
        Revision on the hub.
    """

    def __init__(
        self, name: str, device: str, dtype: str, safetensors_only: bool, revision: str | None
    ) -> None:
        if find_spec("transformers") is None:
            raise ImportError("Embedding proteins needs transformers: pip install 'scenc[esm]'.")
        import torch

        self.name = name
        self.device = torch.device(_best_device() if device == "auto" else device)
        self.dtype = _dtype(dtype, self.device)
        model, tokenizer = _load(name, safetensors_only, revision)
        self._model = model.to(device=self.device, dtype=self.dtype).eval()
        self._tokens = _token_table(tokenizer)
        self._ends = int(tokenizer.cls_token_id), int(tokenizer.eos_token_id)
        self._pad = int(tokenizer.pad_token_id)
        self.dim = int(model.config.hidden_size)
        self.fingerprint = self._fingerprint()

    def sums(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Sum the last layer over the residues that count, shape ``(n_windows, dim)``."""
        import torch

        longest = max(len(window.sequence) for window in windows)
        ids = np.full((len(windows), longest + 2), self._pad, dtype=np.int64)
        counted = np.zeros(ids.shape, dtype=np.float32)
        for row, window in enumerate(windows):
            residues = np.frombuffer(window.sequence.encode("ascii"), dtype=np.uint8)
            ids[row, 0], ids[row, len(residues) + 1] = self._ends
            ids[row, 1 : len(residues) + 1] = self._tokens[residues]
            counted[row, window.start + 1 : window.stop + 1] = 1
        tokens = torch.from_numpy(ids).to(self.device)
        weight = torch.from_numpy(counted).to(self.device)
        try:
            with torch.inference_mode():
                mask = (tokens != self._pad).long()
                hidden = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state
                summed = torch.einsum("nl,nld->nd", weight, hidden.float())
        except torch.OutOfMemoryError as error:
            raise MemoryError(
                f"{len(windows)} windows of up to {longest:,} residues do not fit on "
                f"{self.device}; lower max_tokens_per_batch, or window for long proteins."
            ) from error
        return np.asarray(summed.cpu().numpy(), dtype=np.float32)

    def _fingerprint(self) -> str:
        """Hash what decides the result: the configuration, some weights, the precision."""
        digest = hashlib.sha256(self._model.config.to_json_string(use_diff=False).encode())
        digest.update(str(self.dtype).encode())
        state = self._model.state_dict()
        for key in sorted(state):
            weights = state[key]
            digest.update(f"{key} {tuple(weights.shape)}".encode())
            digest.update(weights.flatten()[:512].float().cpu().numpy().tobytes())
        return digest.hexdigest()


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _dtype(name: str, device: torch.device) -> torch.dtype:
    import torch

    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in known:
        raise ValueError(f'dtype={name!r} is none of "auto", {", ".join(map(repr, known))}.')
    return known[name]


def _load(name: str, safetensors_only: bool, revision: str | None) -> tuple[Any, Any]:
    from transformers import AutoConfig, EsmModel, EsmTokenizer

    local = Path(name).is_dir()
    where: dict[str, Any] = {"local_files_only": local, "revision": revision or "main"}
    try:
        kind = AutoConfig.from_pretrained(name, **where).model_type
    except (OSError, ValueError) as error:
        raise OSError(f"{name} could not be loaded: {error} {_EXPECTED}") from error
    if kind != "esm":
        raise ValueError(f"{name} is a {kind!r} model, not ESM-2.")
    try:
        tokenizer = EsmTokenizer.from_pretrained(name, **where)
        model, info = EsmModel.from_pretrained(
            name,
            add_pooling_layer=False,
            use_safetensors=True if safetensors_only else None,
            output_loading_info=True,
            **where,
        )
    except OSError as error:
        raise OSError(f"{name} could not be loaded: {error} {_EXPECTED}") from error
    missing = [key for key in info["missing_keys"] if not any(part in key for part in _UNUSED)]
    if missing:
        raise ValueError(f"{name} lacks {len(missing)} weights of an ESM-2 model: {missing[0]}.")
    return model, tokenizer


def _token_table(tokenizer: Any) -> NDArray[np.int64]:
    """Token per ASCII code of a residue."""
    from scenc.genes._fasta import RESIDUES

    vocabulary = tokenizer.get_vocab()
    table = np.full(128, int(tokenizer.unk_token_id), dtype=np.int64)
    for residue in RESIDUES:
        if residue not in vocabulary:
            raise ValueError(f"The model's vocabulary lacks {residue!r}; it is not that of ESM-2.")
        table[ord(residue)] = vocabulary[residue]
    return table
