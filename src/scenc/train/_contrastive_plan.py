from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from scenc.train._plan import RECONSTRUCTION_LOSS, Plan

if TYPE_CHECKING:
    from scenc.data import TokenBatch, ViewBatch

_FORBIDDEN = -1e4


class ContrastivePlan(Plan):
    """Train a network to embed thinned views of alike cells alike.

    The loss is a weighted sum of three terms over a batch of pairs of views, the second often of a
    neighbour from another experimental batch:

    - *contrast*: each view's embedding is told apart from those of other cells by its likeness to
      the pair's other view (InfoNCE, both ways). With ``negatives="batch"`` the other cells are
      those of the right one's own experimental batch, so that what sets batches apart is no help.
    - *anchor*: the squared distance of each view's embedding from its cell's place among all cells
      at full depth (`scenc.data.Neighborhoods`), as a share of the places' own squared length.
      Likeness in the contrast is of directions; this term corrects lengths, too.
    - *masked*: the squared error of the genes hidden in the views (eq. 10).

    Views are thinned to depths of their own, or the depth two views share would give them away.

    References
    ----------
    van den Oord et al. (2018), Representation learning with contrastive predictive coding.
    """

    validation_names = (
        "validation_loss",
        RECONSTRUCTION_LOSS,
        "contrast_loss_validation",
        "anchor_loss_validation",
    )

    def training_step(self, batch: ViewBatch, batch_idx: int) -> torch.Tensor:
        """Return the weighted sum of the three terms."""
        loss = self._sums(batch)[0] / batch.n_cells
        self.last_loss = loss.detach()
        return loss

    def validation_sums(self, batch: ViewBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums of the loss and of its terms, and what each is to be divided by."""
        sums = self._sums(batch)
        return sums, torch.full_like(sums, batch.n_cells)

    def _sums(self, batch: ViewBatch) -> torch.Tensor:
        """Return loss, masked, contrast and anchor terms, each times the number of pairs."""
        config = self.config
        embedded, masked = zip(
            *(self._see(view) for view in (batch.first, batch.second)), strict=True
        )
        errors, n_masked = torch.stack(masked).sum(dim=0)
        reconstruction = errors / n_masked.clamp(min=1)
        contrast = contrast_loss(
            embedded[0],
            embedded[1],
            batch.batches,
            config.temperature,
            within_batch=config.negatives == "batch",
        )
        width = batch.anchors.shape[2]
        anchor = torch.stack(
            [
                relative_distance(view[:, :width], place)
                for view, place in zip(embedded, batch.anchors, strict=True)
            ]
        ).sum()
        loss = (
            config.masked_weight * reconstruction
            + config.contrast_weight * contrast
            + config.anchor_weight * anchor
        )
        return torch.stack([loss, reconstruction, contrast, anchor]) * batch.n_cells

    def _see(self, view: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a view's embeddings by pair, and its squared errors' sum and number."""
        cells, decoded = self.network.embed_and_reconstruct(view)
        # A view's cells stand in the order of their length.
        by_pair = torch.empty_like(cells).index_copy(0, view.cells, cells)
        errors = torch.where(view.masked, decoded - view.targets(), 0).square().sum()
        return by_pair, torch.stack([errors, view.n_masked.sum().to(errors.dtype)])


def contrast_loss(
    first: torch.Tensor,
    second: torch.Tensor,
    batches: torch.Tensor,
    temperature: float,
    within_batch: bool,
) -> torch.Tensor:
    """Return the mean InfoNCE loss of pairs, both ways.

    Parameters
    ----------
    first, second
        Embeddings; row i of one belongs to row i of the other, ``(n_pairs, d)``.
    batches
        Experimental batch of the first and of the second cells, shape ``(2, n_pairs)``.
    temperature
        What cosines are divided by.
    within_batch
        Whether a cell's match is told apart from cells of the match's own batch only.
    """
    cosine = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / temperature
    itself = torch.arange(len(first), device=first.device)
    losses = []
    for logits, batch in ((cosine, batches[1]), (cosine.T, batches[0])):
        if within_batch:
            logits = logits.masked_fill(batch[:, None] != batch[None], _FORBIDDEN)
        losses.append(F.cross_entropy(logits.float(), itself))
    return torch.stack(losses).mean()


def relative_distance(embedded: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the sum of squared distances from places, relative to that from the origin.

    Parameters
    ----------
    embedded, places
        Where cells are and should be, both ``(n_cells, d)``.
    """
    length = places.square().sum().clamp(min=torch.finfo(places.dtype).tiny)
    return (embedded - places).square().sum() / length
