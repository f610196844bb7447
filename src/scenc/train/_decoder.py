"""The last part of generative training: the decoder alone, fitted to the network's embeddings.

In training the decoder sees views, thinned and with few genes, of cells whose embeddings still
move, for as many steps as the transformer can be afforded. Afterwards it decodes whole cells, and a
step without the transformer is cheap. So it is fitted once more, to the embeddings of whole cells,
which do not change: embeddings are the same with and without it.
"""

from __future__ import annotations

import logging
import math
from copy import deepcopy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm.auto import tqdm

from scenc._torch_settings import full_precision
from scenc.nn import count_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scenc.data import CellCounts
    from scenc.nn import CountDecoder

logger = logging.getLogger(__name__)

_BATCH_SIZE = 256
_LR = 5e-3
# Passes over the cells at most, as in training: a few cells are soon learned by heart.
_MOST_PASSES = 200


class Latent(NamedTuple):
    """The normal distribution of z of each cell: mean and log variance, ``(n_cells, d_model)``.

    Examples
    --------
    >>> import torch
    >>> bottleneck = scenc.nn.Bottleneck(d_model=64)
    >>> latent = scenc.train.Latent(*bottleneck(torch.randn(700, 64)))
    >>> latent.mean.shape, latent.log_variance.shape
    (torch.Size([700, 64]), torch.Size([700, 64]))
    """

    mean: torch.Tensor
    log_variance: torch.Tensor


def fit_decoder(
    decoder: CountDecoder,
    latent: Latent,
    read: Callable[[NDArray[np.int64]], CellCounts],
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    n_steps: int,
    seed: int,
    progress: bool = False,
) -> tuple[float, float]:
    """Fit a decoder to cells whose z is given.

    The loss is minus the log-likelihood of a cell's counts given a draw of its z, per gene. If it
    is higher at the end than before on the cells to validate on, or if the fit is broken off, the
    weights from before stay.

    Parameters
    ----------
    decoder
        Changed in place.
    latent
        z of all cells, on the decoder's device.
    read
        Returns the counts of cells, by their positions in `latent`.
    train, validation
        Positions of the cells to fit to and to validate on. Without the latter the last weights
        stay.
    n_steps
        Steps of 256 cells; fewer where they would be more than 200 passes over the cells.
    seed
        Of the order of cells and the draws of z; global random states are left alone.
    progress
        Whether to show progress where it takes more than two seconds.

    Returns
    -------
    The validation loss before and after; NaN without validation.

    Examples
    --------
    >>> import torch
    >>> rows, genes = scenc.data.open_rows(adata.X), np.arange(adata.n_vars)
    >>> def read(cells):
    ...     no_batch = np.zeros((len(cells), 1), dtype=np.int64)
    ...     return scenc.data.CellCounts.read(rows, cells, genes, no_batch)
    >>> latent = scenc.train.Latent(torch.randn(700, 64), torch.full((700, 64), -2.0))
    >>> decoder = scenc.nn.CountDecoder(d_model=64, n_hidden=128, n_genes=765, n_categories=[1])
    >>> train, validation = np.arange(600), np.arange(600, 700)
    >>> before, after = scenc.train.fit_decoder(
    ...     decoder, latent, read, train, validation, n_steps=20, seed=0
    ... )
    >>> after < before
    True
    """
    device = latent.mean.device
    order, noise = np.random.default_rng(seed), torch.Generator(device).manual_seed(seed)
    n_steps = min(n_steps, math.ceil(_MOST_PASSES * len(train) / _BATCH_SIZE))
    optimizer = AdamW(decoder.parameters(), lr=_LR, weight_decay=1e-2)
    schedule = CosineAnnealingLR(optimizer, n_steps)
    held_out = [validation[i : i + _BATCH_SIZE] for i in range(0, len(validation), _BATCH_SIZE)]

    def loss_of(cells: NDArray[np.int64], *, draw: bool) -> torch.Tensor:
        counts = read(cells).to(device)
        z = latent.mean[cells]
        if draw:
            drawn = torch.randn(z.shape, generator=noise, device=device)
            z = z + drawn * (0.5 * latent.log_variance[cells]).exp()
        decoded = decoder(z, counts.covariates)
        return count_loss(decoded, decoder.log_dispersion, counts).sum()

    @torch.no_grad()
    def validate() -> float:
        total = sum(float(loss_of(cells, draw=False)) for cells in held_out)
        return total / len(validation) / n_genes if held_out else math.nan

    n_genes = len(decoder.log_dispersion)
    with full_precision(device), torch.enable_grad():
        before, kept = validate(), deepcopy(decoder.state_dict())
        steps = tqdm(
            range(n_steps), desc="Fitting the decoder", unit="step", delay=2, disable=not progress
        )
        try:
            for _ in steps:
                cells = order.choice(train, min(_BATCH_SIZE, len(train)), replace=False)
                loss = loss_of(cells, draw=True) / len(cells) / n_genes
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            after = validate()
        except BaseException:  # also an interrupt: half a fit is worse than none
            decoder.load_state_dict(kept)
            raise
        # Written so that NaN is no improvement either.
        if (held_out and not after < before) or not loss.isfinite():
            decoder.load_state_dict(kept)
            after = before
    logger.info("Decoder fitted to whole cells: count loss %.4f, before %.4f.", after, before)
    return before, after
