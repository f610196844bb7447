"""The registry that scvi-tools keeps of an AnnData, made for cells of files."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd


def make_registry(
    genes: pd.Index[str],
    n_cells: int,
    keys: Mapping[str, str | None],
    columns: Mapping[str, pd.Categorical],
    setup_args: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a registry as ``scenc.Model.setup_anndata`` leaves it.

    It names that method, since scvi-tools saves and checks models by what it knows of it.

    Parameters
    ----------
    genes
        The vocabulary.
    n_cells
        Number of cells.
    keys
        Column of obs for ``"batch"`` and for ``"labels"``; ``None``: all cells are alike.
    columns
        The columns of all cells.
    setup_args
        Further arguments that the method would have been called with.
    """
    state = {
        "n_obs": n_cells,
        "n_vars": len(genes),
        "column_names": genes.to_numpy(dtype=object),
    }
    fields: dict[str, Any] = {
        "X": {
            "data_registry": {"attr_name": "X", "attr_key": None},
            "state_registry": state,
            "summary_stats": {"n_cells": n_cells, "n_vars": len(genes)},
        }
    }
    for name, key in keys.items():
        categories = [0] if key is None else columns[key].categories.tolist()
        fields[name] = {
            "data_registry": {"attr_name": "obs", "attr_key": f"_scvi_{name}"},
            "state_registry": {
                "categorical_mapping": np.array(categories, dtype=object),
                "original_key": f"_scvi_{name}" if key is None else key,
            },
            "summary_stats": {f"n_{name}": len(categories)},
        }
    return {
        "scvi_version": version("scvi-tools"),
        "model_name": "Model",
        "setup_method_name": "setup_anndata",
        "setup_args": {
            "batch_key": keys["batch"],
            "labels_key": keys["labels"],
            "categorical_covariate_keys": None,
            **setup_args,
        },
        "field_registries": fields,
    }
