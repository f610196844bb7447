"""What the generative objective's decoder is told of cells: their batch and further covariates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS

from scenc.io import group_names
from scenc.model._aligned_counts import streamed_batches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from scenc.data import CellModule

BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Covariates:
    """Batch and further covariates of cells.

    Attributes
    ----------
    categories
        Names of each covariate's categories, the batch first.
    codes
        Category of each cell, as a number, shape ``(n_cells, n_covariates)``.
    """

    categories: dict[str, list[str]]
    codes: NDArray[np.int64]

    def lined_up(self, known: Mapping[str, Sequence[str]]) -> NDArray[np.int64]:
        """Return the codes by other categories, such as those of a model; -1 where unknown."""
        lined_up = np.full((len(self.codes), len(known)), -1, np.int64)
        for place, (name, categories) in enumerate(known.items()):
            if name in self.categories:
                column = list(self.categories).index(name)
                found = pd.Index(categories).get_indexer(pd.Index(self.categories[name]))
                lined_up[:, place] = found[self.codes[:, column]]
        return lined_up


def extended(
    known: Mapping[str, Sequence[str]], others: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Return categories with the new ones of other data behind them."""
    return {
        name: list(dict.fromkeys([*names, *others.get(name, ())])) for name, names in known.items()
    }


def registered_covariates(manager: AnnDataManager) -> Covariates:
    """Return the covariates of an AnnData or MuData that has been set up."""
    columns = {BATCH: np.asarray(manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY)).reshape(-1)}
    mappings = {BATCH: manager.get_state_registry(REGISTRY_KEYS.BATCH_KEY)["categorical_mapping"]}
    if REGISTRY_KEYS.CAT_COVS_KEY in manager.data_registry:
        frame = manager.get_from_registry(REGISTRY_KEYS.CAT_COVS_KEY)
        columns |= {str(name): frame[name].to_numpy() for name in frame.columns}
        state = manager.get_state_registry(REGISTRY_KEYS.CAT_COVS_KEY)
        mappings |= {str(name): values for name, values in state["mappings"].items()}
    categories = {name: group_names(values).tolist() for name, values in mappings.items()}
    return Covariates(categories, np.stack(list(columns.values()), axis=1).astype(np.int64))


def streamed_covariates(files: CellModule) -> Covariates:
    """Return the batches of many files' cells."""
    names = ["0"]
    if files.batch_key is not None:
        names = group_names(files.column(files.batch_key).categories).tolist()
    return Covariates({BATCH: names}, streamed_batches(files)[:, None])


def query_covariates(
    data: AnnData | MuData, setup_args: Mapping[str, Any], known: Mapping[str, Sequence[str]]
) -> NDArray[np.int64]:
    """Return the covariates of cells that need not have them, by a model's categories.

    Columns are looked for where the model's own data have theirs; -1 where there is none, or a
    category is unknown.
    """
    keys = {name: setup_args["batch_key"] if name == BATCH else name for name in known}
    places = setup_args.get("modalities") or {}
    codes = np.full((data.n_obs, len(known)), -1, np.int64)
    for place, (name, key) in enumerate(keys.items()):
        modality = places.get("batch_key" if name == BATCH else "categorical_covariate_keys")
        obs = data.obs if modality is None else data[modality].obs
        if key is None and len(known[name]) == 1:
            codes[:, place] = 0
        elif key in obs:
            codes[:, place] = pd.Index(known[name]).get_indexer(pd.Index(group_names(obs[key])))
    return codes
