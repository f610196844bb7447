from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from scenc._distributed import world_size
from scenc.train._plan import RECONSTRUCTION_LOSS, Plan
from scenc.train._ranks import gather_over_ranks, sum_over_ranks

if TYPE_CHECKING:
    from scenc.data import TokenBatch, ViewBatch

_FORBIDDEN = -1e4
# Where all places are the origin.
_TINY = 1e-30


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

    Under distributed training a batch is that of all ranks together: other cells are told apart
    from, and means taken, across ranks.

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
        loss = self._terms(batch)[0]
        self.last_loss = loss.detach()
        return loss

    def validation_sums(self, batch: ViewBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums of the loss and of its terms, and what each is to be divided by."""
        terms, n_pairs = self._terms(batch), batch.real.sum()
        return terms * n_pairs, torch.ones_like(terms) * n_pairs

    def _terms(self, batch: ViewBatch) -> torch.Tensor:
        """Return the loss, and its masked, contrast and anchor terms, over all ranks' pairs."""
        config = self.config
        views = (batch.first, batch.second)
        embedded, masked = zip(*(self._see(view, batch.real) for view in views), strict=True)
        cells = torch.stack(embedded)
        found = torch.cat(
            [torch.stack(masked).sum(dim=0), *distances(cells, batch.anchors, batch.real)]
        )
        found = sum_over_ranks(found)
        errors, n_masked = found[:2]
        apart, lengths = found[2:].view(2, 2)
        # A weight that no token has needed still has a gradient, which DDP waits for.
        reconstruction = errors / n_masked.clamp(min=1) + 0 * self.network.mask_token.sum()
        anchor = (apart / lengths.clamp(min=_TINY)).sum()
        contrast = contrast_loss(
            *_of_all_ranks(cells, batch),
            config.temperature,
            within_batch=config.negatives == "batch",
        )
        loss = (
            config.masked_weight * reconstruction
            + config.contrast_weight * contrast
            + config.anchor_weight * anchor
        )
        return torch.stack([loss, reconstruction, contrast, anchor])

    def _see(self, view: TokenBatch, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a view's embeddings by pair, and its squared errors' sum and number."""
        cells, decoded = self.network.embed_and_reconstruct(view)
        # A view's cells stand in the order of their length.
        by_pair = torch.empty_like(cells).index_copy(0, view.cells, cells)
        counts = own[view.cells]
        hidden = view.masked & counts[:, None]
        errors = torch.where(hidden, decoded - view.targets(), 0).square().sum()
        n_masked = (view.n_masked * counts).sum()
        return by_pair, torch.stack([errors, n_masked.to(errors.dtype)])


def distances(
    cells: torch.Tensor, places: torch.Tensor, own: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sums over the pairs that count, for both views, each of shape ``(2,)``.

    Parameters
    ----------
    cells, places
        Where cells are and should be, ``(2, n_pairs, d)``; cells may have more dimensions.
    own
        Which pairs count, ``(n_pairs,)``.

    Returns
    -------
    Squared distances, and the places' squared lengths.
    """
    counts = own[:, None].to(cells.dtype)
    apart = (cells[..., : places.shape[2]] - places) * counts
    return apart.square().sum(dim=(1, 2)), (places * counts).square().sum(dim=(1, 2))


def _of_all_ranks(
    cells: torch.Tensor, batch: ViewBatch
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return both views' embeddings and their experimental batches, of the pairs of all ranks."""
    if world_size() == 1:
        return cells[0], cells[1], batch.batches
    own = gather_over_ranks(batch.real.to(torch.uint8)).bool()
    first, second = gather_over_ranks(cells, dim=1)[:, own]
    return first, second, gather_over_ranks(batch.batches, dim=1)[:, own]


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
