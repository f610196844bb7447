"""What is written beside an embedding: which model made it, how, and of which genes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from scenc import __version__
from scenc.io import weights_digest

if TYPE_CHECKING:
    from scenc.genes import GeneMatch
    from scenc.model._persistence import ModelState
    from scenc.nn import CellTransformer

# Where in uns scenc writes what it knows of its results.
UNS_KEY = "scenc"


def describe_model(state: ModelState, network: CellTransformer) -> dict[str, Any]:
    """Return what tells a model from others, in values that ``.h5ad`` files hold.

    It is the same at each call: it holds neither a date nor a path. Settings that are ``None`` are
    left out, since earlier versions of anndata cannot read them.
    """
    training = {} if state.train_config is None else asdict(state.train_config)
    setup = {key: state.registry["setup_args"].get(key) for key in _OF_SETUP}
    described: dict[str, Any] = _storable(
        {
            "model": "scenc.Model",
            "version": __version__,
            "weights_sha256": weights_digest(network.state_dict()),
            "preset": state.preset,
            "seed": state.config.seed,
            "settings": asdict(state.config),
            "training": {"n_epochs": state.n_epochs, "n_steps": state.n_steps, **training},
            "setup": setup,
        }
    )
    return described


_OF_SETUP = ("layer", "rna_layer", "gene_ids", "batch_key", "labels_key")


def describe_embedding(
    model: Mapping[str, Any], matched: GeneMatch, how: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the record of an embedding: `describe_model`, arguments and coverage of genes.

    Parameters
    ----------
    model
        What `describe_model` returns.
    matched
        How the genes of the cells match the vocabulary.
    how
        Arguments that the embedding depends on.
    """
    return {
        **model,
        "embedding": _storable(how),
        "genes": {
            "n_query": len(matched.query),
            "n_vocabulary": len(matched.vocabulary),
            "n_matched": matched.n_matched,
            "coverage": matched.coverage,
        },
    }


def record_embedding(uns: MutableMapping[str, Any], key: str, record: dict[str, Any]) -> None:
    """Write the record of an embedding into ``uns["scenc"]["embeddings"]``, beside others there.

    Something of the user's under this name stays, with a warning.
    """
    ours = uns.setdefault(UNS_KEY, {})
    records = ours.setdefault("embeddings", {}) if isinstance(ours, MutableMapping) else None
    if not isinstance(records, MutableMapping):
        warnings.warn(
            f"uns[{UNS_KEY!r}] holds something else: what made the embedding {key!r} is not "
            "written there.",
            UserWarning,
            stacklevel=3,
        )
        return
    records[key] = record


def _storable(value: Any) -> Any:
    """Turn settings into what files hold: no ``None``, arrays instead of sequences."""
    if isinstance(value, Mapping):
        return {str(key): _storable(item) for key, item in value.items() if item is not None}
    return np.array(value) if isinstance(value, list | tuple) else value
