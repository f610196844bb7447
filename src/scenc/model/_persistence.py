from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import torch

from scenc import __version__
from scenc._arguments import choose
from scenc.io._model_files import ModelFileError, read_card, read_shapes, read_weights, write_model
from scenc.model._base import ModelBase
from scenc.model._presets import get_preset
from scenc.nn import CellTransformer, ModelConfig, ProteinGeneEncoder
from scenc.train import TrainConfig

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from mudata import MuData

_VECTORS, _OWN = "gene_encoder.vectors", "gene_encoder.own"
_EDGES = "expression_encoder.edges"
_BLOCKS = "transformer.blocks."


class PersistenceMixin(ModelBase):
    """Saving and loading, without pickle."""

    def save(self, dir_path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the model into a folder: ``weights.safetensors`` and ``model.json``.

        Parameters
        ----------
        dir_path
            The folder. It appears whole or not at all.
        overwrite
            Whether a model that is there may be replaced.

        Raises
        ------
        FileExistsError
            The folder exists.

        Examples
        --------
        >>> model.save("pbmc_model")
        """
        card = {
            "scenc": __version__,
            "config": asdict(self.config),
            "preset": self.preset,
            "train_config": asdict(self.train_config) if self.train_config else None,
            "vocabulary": self.vocabulary.tolist(),
            "counted": self.counted.tolist(),
            "registry": _plain(self.registry_),
            "is_trained": self.is_trained_,
            "n_epochs": self._n_epochs,
            "n_steps": self._n_steps,
            "history": {
                name: {
                    "step": frame.index.tolist(),
                    # JSON knows no NaN.
                    "value": [v if np.isfinite(v) else None for v in frame.iloc[:, 0].tolist()],
                }
                for name, frame in (self.history_ or {}).items()
            },
        }
        weights = {name: w.detach().cpu() for name, w in self.module.state_dict().items()}
        write_model(Path(dir_path), card, weights, overwrite)

    @classmethod
    def load(cls, dir_path: str | os.PathLike[str], adata: AnnData | MuData | None = None) -> Self:
        """Read a model from a folder. Nothing in it is executed.

        Parameters
        ----------
        dir_path
            The folder that `save` wrote.
        adata
            Data to attach, for `train` and as the default of what the model embeds; it needs the
            layer and columns that the model was set up with. Its genes are matched by name.

        Raises
        ------
        FileNotFoundError
            The folder or one of its files is missing.
        ModelFileError
            A file is damaged, foreign, or does not hold what it says.

        Examples
        --------
        >>> model = scenc.Model.load("pbmc_model")
        >>> model.get_latent_representation(query)
        """
        path = Path(dir_path)
        card, shapes = read_card(path), read_shapes(path)
        try:
            config = ModelConfig.from_dict(card["config"])
            vocabulary = _vocabulary(card["vocabulary"])
            counted = _vocabulary(card["counted"])
            network = _shell(config, len(vocabulary), shapes)
            registry = _registry(card["registry"])
            train_config = card["train_config"]
            if train_config is not None:
                train_config = TrainConfig.from_dict(train_config)
            history = {
                str(name): pd.DataFrame(
                    {name: np.asarray(curve["value"], dtype=float)},
                    index=pd.Index(np.asarray(curve["step"], dtype=int), name="step"),
                )
                for name, curve in card["history"].items()
            }
            counters = int(card["n_epochs"]), int(card["n_steps"])
            trained, preset = bool(card["is_trained"]), str(card["preset"])
            get_preset(preset, config.objective)
        except (
            LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError
        ) as error:  # fmt: skip
            raise ModelFileError(f"{path} does not hold what a scenc model does: {error}") from None
        _compare_shapes(path, network, shapes)
        weights = read_weights(path)
        _check_values(path, network, weights)
        network.load_state_dict(weights, assign=True)

        model = cls._restore(registry, config, preset, vocabulary, counted, network)
        model.train_config, model.history_ = train_config, history or None
        model._n_epochs, model._n_steps = counters
        model.is_trained_ = trained
        network.eval()
        if adata is not None:
            model.attach(adata)
        return model


def _shell(
    config: ModelConfig, n_genes: int, shapes: dict[str, tuple[int, ...]]
) -> CellTransformer:
    """Build a network of the described shape that holds no memory."""
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
                layer_norm=config.protein_output == "layer_norm",
            )
        edges = torch.zeros(shapes[_EDGES]) if _EDGES in shapes else None
        return CellTransformer(config, n_genes, encoder, edges)


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
