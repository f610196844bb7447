from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from scenc._distributed import world_size
from scenc._torch_settings import full_precision
from scenc.train._plan import RECONSTRUCTION_LOSS, TrainingPlan
from scenc.train._ranks import gather_over_ranks, sum_over_ranks

if TYPE_CHECKING:
    from scenc.data import TokenBatch, ViewBatch

# Logit of a cell that is no negative: after softmax 0, and finite also in float16.
_EXCLUDED = -1e4
# Keeps the anchor term finite where every anchor is the origin.
_TINY = 1e-30


class ContrastivePlan(TrainingPlan):
    """Train a network to embed thinned views of alike cells alike.

    The loss is a weighted sum of three terms over a batch of pairs of views, the second often of a
    neighbour from another experimental batch:

    - *contrast*: of all second views in the batch, a first view must be most similar to its
      pair's, and the other way round (InfoNCE over cosines). With ``negatives="batch"`` only
      second views from the match's experimental batch compete: were all to, the network could
      rule most out by their batch, and would learn to tell batches apart.
    - *anchor*: the squared distance of each view's embedding from its cell's anchor, the place of
      the cell with all of its counts (`scenc.data.Neighborhoods`), relative to the anchors'
      squared length. The contrast compares directions only; this term sets lengths, too.
    - *masked*: the squared error of the genes hidden in the views (eq. 10).

    Under distributed training a batch is that of all ranks together: negatives are gathered, and
    means taken, across ranks.

    Each view is thinned to a library size drawn for it alone: an equal one would give away which
    views belong together.

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
        """Return the sums over pairs of the loss and of its terms, and the numbers of pairs."""
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
        # DDP waits for a gradient of every weight: the mask token needs one also where no token
        # is masked.
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
        # The tokenizer sorts a view's cells by their number of tokens, each view otherwise.
        by_pair = torch.empty_like(cells).index_copy(0, view.cells, cells)
        counts = own[view.cells]
        hidden = view.masked & counts[:, None]
        errors = torch.where(hidden, decoded - view.targets(), 0).square().sum()
        n_masked = (view.n_masked * counts).sum()
        return by_pair, torch.stack([errors, n_masked.to(errors.dtype)])


def distances(
    cells: torch.Tensor, anchors: torch.Tensor, real: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return squared distances of embeddings from their anchors, summed over pairs.

    Parameters
    ----------
    cells, anchors
        Embeddings and where they should be, ``(2, n_pairs, d)``, of both views; embeddings may
        have more dimensions.
    real
        Which pairs count, ``(n_pairs,)``: the others repeat pairs to fill the batches of all ranks.

    Returns
    -------
    The distances, and the anchors' squared lengths, each of shape ``(2,)``.
    """
    counts = real[:, None].to(cells.dtype)
    apart = (cells[..., : anchors.shape[2]] - anchors) * counts
    return apart.square().sum(dim=(1, 2)), (anchors * counts).square().sum(dim=(1, 2))


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
        Embeddings of the views; row i of one is the match of row i of the other,
        ``(n_pairs, d)``.
    batches
        Experimental batch of the first and of the second cells, shape ``(2, n_pairs)``.
    temperature
        Divides the cosines.
    within_batch
        Whether only cells of the match's batch are negatives.
    """
    with full_precision(first.device):
        cosine = F.normalize(first.float(), dim=1) @ F.normalize(second.float(), dim=1).T
        cosine = cosine / temperature
    match = torch.arange(len(first), device=first.device)
    losses = []
    for logits, batch in ((cosine, batches[1]), (cosine.T, batches[0])):
        if within_batch:
            logits = logits.masked_fill(batch[:, None] != batch[None], _EXCLUDED)
        losses.append(F.cross_entropy(logits, match))
    return torch.stack(losses).mean()
