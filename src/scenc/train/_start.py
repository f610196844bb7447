from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from lightning.pytorch.callbacks import Callback

from scenc._distributed import world_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lightning.pytorch import LightningModule, Trainer

    from scenc.data import Neighborhoods, ViewDataset


class StartTogether(Callback):
    """Before ranks train together: see that they have the same settings and data.

    Parameters
    ----------
    settings
        Plain values that determine the training.

    Examples
    --------
    >>> together = scenc.train.StartTogether({"lr": 1e-3, "n_genes": adata.n_vars})
    >>> callbacks = [together]  # for `scenc.train.fit`, in each process
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = dict(settings)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the ranks' settings.

        Raises
        ------
        RuntimeError
            They differ; training would go on without a sign of it.
        """
        if world_size() == 1:
            return
        every: list[Any] = [None] * world_size()
        dist.all_gather_object(every, self._settings)
        for rank, other in enumerate(every):
            for name, value in every[0].items():
                if other.get(name) != value:
                    raise RuntimeError(
                        f"Processes 0 and {rank} would not train the same model: {name} is "
                        f"{value!r} for one, {other.get(name)!r} for the other. All must have the "
                        "same data and arguments."
                    )


class ShareNeighborhoods(Callback):
    """Have all ranks train on the neighbourhoods that the first has found.

    If each rank searched, all would be kept waiting on shared CPUs, and rounding could give them
    different neighbours.

    Parameters
    ----------
    views
        The training data, with neighbourhoods at least on the first rank.
    find
        Searches them, in case this process has none and turns out to train alone.

    Examples
    --------
    >>> views = scenc.data.ViewDataset(
    ...     scenc.data.open_rows(adata.X),
    ...     gene_map=np.arange(adata.n_vars),
    ...     tokenizer=scenc.data.Tokenizer(context=128),
    ...     neighborhoods=None,  # found as training starts
    ...     depth=(0.3, 0.9),
    ...     same_cell=1.0,
    ... )
    >>> alone = scenc.data.Neighborhoods.alone(np.zeros(adata.n_obs, dtype=int))
    >>> callbacks = [scenc.train.ShareNeighborhoods(views, lambda: alone)]  # for `fit`
    """

    def __init__(self, views: ViewDataset, find: Callable[[], Neighborhoods]) -> None:
        self._views = views
        self._find = find

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Share them."""
        if world_size() > 1:
            self._views.neighborhoods = trainer.strategy.broadcast(self._views.neighborhoods)
        elif self._views.neighborhoods is None:
            self._views.neighborhoods = self._find()
