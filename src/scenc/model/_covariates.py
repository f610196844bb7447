"""What the generative objective's decoder is told of cells: their batch and further covariates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS

from scenc.model._aligned_counts import streamed_batches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        name: [*names, *(new for new in others.get(name, ()) if new not in set(names))]
        for name, names in known.items()
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
    categories = {name: [str(value) for value in values] for name, values in mappings.items()}
    return Covariates(categories, np.stack(list(columns.values()), axis=1).astype(np.int64))


def streamed_covariates(files: CellModule) -> Covariates:
    """Return the batches of many files' cells."""
    names = ["0"]
    if files.batch_key is not None:
        names = [str(name) for name in files.column(files.batch_key).categories]
    return Covariates({BATCH: names}, streamed_batches(files)[:, None])
