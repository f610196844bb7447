"""Saving and loading models, without pickle."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from scenc import __version__
from scenc._arguments import choose
from scenc.io import ModelFileError, read_card, read_shapes, read_weights, write_model
from scenc.model._presets import get_preset
from scenc.nn import CellTransformer, ModelConfig, ProteinGeneEncoder
from scenc.train import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_VECTORS, _OWN = "gene_encoder.vectors", "gene_encoder.own"
_EDGES = "expression_encoder.edges"
_BLOCKS = "transformer.blocks."


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model without its weights: what ``model.json`` (``config.json``) holds.

    Attributes are those of `scenc.Model`; `n_epochs` and `n_steps` are of all trainings together.
    `count_shares` are the shares of the counts in training that the genes of the vocabulary and
    then of `counted` had, where they are known.
    """

    config: ModelConfig
    preset: str
    train_config: TrainConfig | None
    vocabulary: pd.Index[str]
    counted: pd.Index[str]
    count_shares: NDArray[np.float64] | None
    registry: dict[str, Any]
    is_trained: bool
    n_epochs: int
    n_steps: int
    history: dict[str, pd.DataFrame] | None
    covariates: dict[str, list[str]]


def save_model(
    path: Path,
    state: ModelState,
    network: CellTransformer,
    overwrite: bool,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write a model into a folder, as `scenc.Model.save` says, or `save_pretrained` with texts."""
    card = {
        "scenc": __version__,
        "config": asdict(state.config),
        "preset": state.preset,
        "train_config": asdict(state.train_config) if state.train_config else None,
        "vocabulary": state.vocabulary.tolist(),
        "counted": state.counted.tolist(),
        "count_shares": None if state.count_shares is None else state.count_shares.tolist(),
        "registry": _plain(state.registry),
        "covariates": state.covariates,
        "is_trained": state.is_trained,
        "n_epochs": state.n_epochs,
        "n_steps": state.n_steps,
        "history": {
            name: {
                "step": frame.index.tolist(),
                # JSON knows no NaN.
                "value": [v if np.isfinite(v) else None for v in frame.iloc[:, 0].tolist()],
            }
            for name, frame in (state.history or {}).items()
        },
    }
    weights = {name: w.detach().cpu() for name, w in network.state_dict().items()}
    write_model(path, card, weights, overwrite, texts)


def load_model(path: Path) -> tuple[ModelState, CellTransformer]:
    """Read what `save_model` wrote, as `scenc.Model.load` says."""
    card, shapes = read_card(path), read_shapes(path)
    try:
        state = _state(card)
        network = _shell(state, shapes)
    except (
        LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError
    ) as error:  # fmt: skip
        raise ModelFileError(f"{path} does not hold what a scenc model does: {error}") from None
    _compare_shapes(path, network, shapes)
    weights = read_weights(path)
    _check_values(path, network, weights)
    network.load_state_dict(weights, assign=True)
    network.eval()
    return state, network


def history_frame(name: str, steps: list[int], values: list[Any]) -> pd.DataFrame:
    """Return a training curve by optimizer step; ``None`` becomes NaN."""
    index = pd.Index(np.asarray(steps, dtype=int), name="step")
    return pd.DataFrame({name: np.asarray(values, dtype=float)}, index=index)


def _state(card: dict[str, Any]) -> ModelState:
    """Check the values of ``model.json``, and turn them into what a model has."""
    config = ModelConfig.from_dict(card["config"])
    get_preset(str(card["preset"]), config.objective)
    train_config = card["train_config"]
    history = {
        str(name): history_frame(name, values["step"], values["value"])
        for name, values in card["history"].items()
    }
    return ModelState(
        config=config,
        preset=str(card["preset"]),
        train_config=None if train_config is None else TrainConfig.from_dict(train_config),
        vocabulary=_vocabulary(card["vocabulary"]),
        counted=_vocabulary(card["counted"]),
        count_shares=_shares(card),
        registry=_registry(card["registry"]),
        is_trained=bool(card["is_trained"]),
        n_epochs=int(card["n_epochs"]),
        n_steps=int(card["n_steps"]),
        history=history or None,
        covariates=_covariates(card.get("covariates", {})),
    )


def _shell(state: ModelState, shapes: dict[str, tuple[int, ...]]) -> CellTransformer:
    """Build a network of the described shape that holds no memory."""
    config, n_genes = state.config, len(state.vocabulary)
    n_blocks = len({name.split(".")[2] for name in shapes if name.startswith(_BLOCKS)})
    if n_blocks != config.n_layers:
        raise ValueError(f"the weights have {n_blocks} layers instead of {config.n_layers}.")
    binned = config.expression_encoder == "hard" and config.hard_edges != "cell"
    if binned != (_EDGES in shapes):
        raise ValueError(f"the weights {'lack' if binned else 'have'} edges of bins.")
    with torch.device("meta"):
        encoder = None
        if config.gene_encoder == "protein":
            encoder = ProteinGeneEncoder(
                n_genes,
                shapes[_VECTORS][1],
                config.d_model,
                config.protein_hidden,
                n_own=shapes[_OWN][0],
                activation=config.activation,
                layer_norm=config.protein_output in ("layer_norm", "silu"),
                projection=config.protein_projection,
                silu=config.protein_output == "silu",
            )
        edges = torch.zeros(shapes[_EDGES]) if _EDGES in shapes else None
        n_categories = [len(names) for names in state.covariates.values()]
        return CellTransformer(config, n_genes, encoder, edges, n_categories)


def _compare_shapes(
    path: Path, network: CellTransformer, shapes: dict[str, tuple[int, ...]]
) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name in sorted(expected.keys() | shapes.keys()):
        if expected.get(name) != shapes.get(name):
            raise ModelFileError(
                f"{path}: the weights do not fit the description: {name} should be "
                f"{expected.get(name, 'absent')} and is {shapes.get(name, 'absent')}."
            )


def _check_values(path: Path, network: CellTransformer, weights: dict[str, torch.Tensor]) -> None:
    for name, expected in network.state_dict().items():
        kinds = {torch.float16, torch.float32} if name == _VECTORS else {expected.dtype}
        if weights[name].dtype not in kinds:
            raise ModelFileError(
                f"{path}: the weights do not fit the description: {name} holds "
                f"{weights[name].dtype} values."
            )
        # Embeddings would be NaN without a word.
        if not weights[name].isfinite().all():
            raise ModelFileError(f"{path}: {name} holds NaN or infinite values.")


def _vocabulary(names: Any) -> pd.Index[str]:
    """Turn a list of genes into an index, if it is one."""
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError("the vocabulary is no list of genes.")
    vocabulary = pd.Index([str(name) for name in names])
    if vocabulary.has_duplicates:
        raise ValueError("the vocabulary names a gene twice.")
    return vocabulary


def _covariates(names: Any) -> dict[str, list[str]]:
    """Turn the names of covariates' categories into what they should be, if they are that."""
    if not isinstance(names, dict) or not all(isinstance(some, list) for some in names.values()):
        raise ValueError("the covariates are no lists of categories.")
    return {str(key): [str(name) for name in some] for key, some in names.items()}


def _shares(card: dict[str, Any]) -> NDArray[np.float64] | None:
    """Return the shares of the counts, which models of earlier versions do not have."""
    if card.get("count_shares") is None:
        return None
    shares = np.asarray(card["count_shares"], dtype=np.float64)
    if shares.shape != (len(card["vocabulary"]) + len(card["counted"]),):
        raise ValueError("count_shares are not one number per gene.")
    if not (np.isfinite(shares) & (shares >= 0)).all():
        raise ValueError("count_shares are no shares.")
    return shares


def _plain(value: Any) -> Any:
    """Turn scvi-tools' registry into plain values."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple | pd.Index):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _registry(plain: Any) -> dict[str, Any]:
    """Turn plain values back into scvi-tools' registry."""
    choose(plain["setup_method_name"], ("setup_anndata", "setup_mudata"), "setup_method_name")
    if not isinstance(plain["setup_args"], dict):
        raise TypeError("setup_args are no dictionary.")
    if "X" not in plain["field_registries"]:
        raise KeyError("X")
    for field in plain["field_registries"].values():
        state = field["state_registry"]
        for key in ("column_names", "categorical_mapping"):
            if key in state:
                state[key] = np.asarray(state[key], dtype=object)
    registry: dict[str, Any] = plain
    return registry
