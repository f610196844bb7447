from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from scenc._distributed import world_size
from scenc._torch_settings import full_precision
from scenc.nn import count_loss, kl_divergence
from scenc.train._plan import RECONSTRUCTION_LOSS, TrainingPlan
from scenc.train._ranks import gather_over_ranks, sum_over_ranks

if TYPE_CHECKING:
    from scenc.data import TokenBatch, ViewBatch
    from scenc.nn import CellTransformer
    from scenc.train._config import TrainConfig

# Logit of a cell that is no negative: after softmax 0, and finite also in float16.
_EXCLUDED = -1e4
# Keeps the anchor term finite where every anchor is the origin.
_TINY = 1e-30


class ViewPlan(TrainingPlan):
    """Base of the plans that train on pairs of views: what of a batch enters their losses.

    Examples
    --------
    >>> views = scenc.data.ViewDataset(
    ...     scenc.data.open_rows(adata.X),
    ...     gene_map=np.arange(adata.n_vars),
    ...     tokenizer=scenc.data.Tokenizer(context=64, mask_fraction=0.2),
    ...     neighborhoods=scenc.data.Neighborhoods.alone(np.zeros(adata.n_obs, dtype=int)),
    ...     depth=(0.3, 0.9),
    ...     same_cell=1.0,
    ... )
    >>> network = scenc.nn.CellTransformer(scenc.nn.ModelConfig(), n_genes=adata.n_vars)
    >>> plan = scenc.train.ContrastivePlan(network, scenc.train.TrainConfig())  # a `ViewPlan`
    >>> loss = plan.training_step(views[scenc.data.Request(np.arange(32), seed=0)], 0)
    """

    def training_step(self, batch: ViewBatch, batch_idx: int) -> torch.Tensor:
        """Return the weighted sum of the terms."""
        loss = self._terms(batch)[0]
        self.last_loss = loss.detach()
        return loss

    def validation_sums(self, batch: ViewBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums over pairs of the loss and of its terms, and the numbers of pairs."""
        terms, n_pairs = self._terms(batch), batch.real.sum()
        return terms * n_pairs, torch.ones_like(terms) * n_pairs

    @abstractmethod
    def _terms(self, batch: ViewBatch) -> torch.Tensor:
        """Return the loss, and the terms in the order of the names, over all ranks' pairs."""

    def _see(self, view: TokenBatch, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a view's embeddings by pair, and its squared errors' sum and number."""
        cells, decoded = self.network.embed_and_reconstruct(view)
        real = own[view.cells]
        hidden = view.masked & real[:, None]
        errors = torch.where(hidden, decoded - view.targets(), 0).square().sum()
        n_masked = (view.n_masked * real).sum()
        return _by_pair(cells, view), torch.stack([errors, n_masked.to(errors.dtype)])

    def _contrast(self, cells: torch.Tensor, batch: ViewBatch) -> torch.Tensor:
        """Return the contrast of both views' embeddings, over all ranks' pairs."""
        return contrast_loss(
            *_of_all_ranks(cells, batch),
            self.config.temperature,
            within_batch=self.config.negatives == "batch",
        )


class ContrastivePlan(ViewPlan):
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

    Examples
    --------
    >>> config = scenc.nn.ModelConfig(objective="contrastive")
    >>> network = scenc.nn.CellTransformer(config, n_genes=2000)
    >>> plan = scenc.train.ContrastivePlan(network, scenc.train.TrainConfig(temperature=0.1))
    >>> plan.validation_names[2:]
    ('contrast_loss_validation', 'anchor_loss_validation')
    """

    validation_names = (
        "validation_loss",
        RECONSTRUCTION_LOSS,
        "contrast_loss_validation",
        "anchor_loss_validation",
    )

    def _terms(self, batch: ViewBatch) -> torch.Tensor:
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
        contrast = self._contrast(cells, batch)
        loss = (
            config.masked_weight * reconstruction
            + config.contrast_weight * contrast
            + config.anchor_weight * anchor
        )
        return torch.stack([loss, reconstruction, contrast, anchor])


class GenerativePlan(ViewPlan):
    """Train a network to embed thinned views such that a cell's counts can be decoded from them.

    The loss is a weighted sum over a batch of pairs of views, the second often of a neighbour from
    another experimental batch, the *partner*:

    - *counts*: minus the log-likelihood of a cell's whole counts, given the view's z (drawn from
      `scenc.nn.Bottleneck`), the cell's library size and covariates, divided by the number of
      genes. A share of it, `partner_share`, is on the partner's counts instead, with the partner's
      library size and covariates: what two alike cells of two batches share is what counts.
    - *KL*: of z against a standard normal distribution, divided by the number of genes. At
      `kl_weight` 1 and without partners, counts and KL together are minus the evidence lower bound.
    - *contrast*, *anchor* and *masked*: as in `ContrastivePlan`.

    Terms of weight 0 do not count; that of KL is multiplied by the weight of counts, too. Without
    anchor and partners (``same_cell=1``) no neighbours are searched.

    References
    ----------
    Lopez et al. (2018), Deep generative modeling for single-cell transcriptomics: likelihood,
    library size and covariates.
    Wen et al. (2024), CellPLM: decoding all genes of a cell from its pooled embedding.

    Examples
    --------
    >>> config = scenc.nn.ModelConfig(objective="generative", likelihood="zinb")
    >>> network = scenc.nn.CellTransformer(config, n_genes=2000, n_categories=[4])  # four batches
    >>> plan = scenc.train.GenerativePlan(network, scenc.train.TrainConfig(kl_weight=2.0))
    >>> plan.validation_names[1:3]
    ('count_loss_validation', 'kl_validation')
    """

    validation_names = (
        "validation_loss",
        "count_loss_validation",
        "kl_validation",
        "contrast_loss_validation",
        "anchor_loss_validation",
        RECONSTRUCTION_LOSS,
    )

    def __init__(self, network: CellTransformer, config: TrainConfig) -> None:
        super().__init__(network, config)
        # DDP waits for a gradient of every weight that wants one.
        masked = config.masked_weight > 0
        network.mask_token.requires_grad_(masked)
        network.decoder.requires_grad_(masked)
        # Pooling by expression is of hidden states that are not normalised.
        by_expression = network.config.pooling == "expression"
        network.transformer.final_norm.requires_grad_(masked or not by_expression)

    def _terms(self, batch: ViewBatch) -> torch.Tensor:
        config = self.config
        cells, masked = self._embed(batch)
        counts, kl = self._decode(cells, batch)
        zero = cells.new_zeros(())
        contrast = self._contrast(cells, batch) if config.contrast_weight else zero
        apart, lengths = distances(cells, batch.anchors, batch.real)
        # Sums of all ranks, so that each rank has the loss of the whole batch.
        summed = sum_over_ranks(torch.stack([*masked, counts, kl, *apart, *lengths,
                                             batch.real.sum().to(counts.dtype)]))  # fmt: skip
        errors, n_masked, counts, kl = summed[:4]
        anchor = (summed[4:6] / summed[6:8].clamp(min=_TINY)).sum()
        counts, kl = counts / summed[8], kl / summed[8]
        reconstruction = errors / n_masked.clamp(min=1)
        loss = (
            config.counts_weight * (counts + config.kl_weight * kl)
            + config.contrast_weight * contrast
            + config.anchor_weight * anchor
            + config.masked_weight * reconstruction
        )
        return torch.stack([loss, counts, kl, contrast, anchor, reconstruction])

    def _embed(self, batch: ViewBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both views' embeddings, ``(2, n_pairs, d_model)``, and errors of masked genes."""
        if self.config.masked_weight:
            seen = [self._see(view, batch.real) for view in (batch.first, batch.second)]
            embedded, errors = zip(*seen, strict=True)
            return torch.stack(embedded), torch.stack(errors).sum(dim=0)
        views = (batch.first, batch.second)
        cells = torch.stack([_by_pair(self.network.embed_cells(view), view) for view in views])
        return cells, cells.new_zeros(2)

    def _decode(self, cells: torch.Tensor, batch: ViewBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums over pairs, means of both views, of the losses of counts and of KL."""
        network, share = self.network, self.config.partner_share
        assert batch.counts is not None
        counts = batch.counts
        with full_precision(cells.device):
            mean, log_variance = network.bottleneck(cells.float())
            latent = mean
            if self.training:
                latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
            decoder, loss = network.count_decoder, torch.zeros((), device=cells.device)
            # The cell's own counts, and its partner's: those that the other view was made of.
            for z, weight in ((latent, 1 - share), (latent.flip(0), share)):
                if weight:
                    decoded = decoder(z.flatten(end_dim=1), counts.covariates)
                    losses = count_loss(decoded, decoder.log_dispersion, counts)
                    loss = loss + weight * losses.view(2, -1).mean(dim=0)
            kl = kl_divergence(mean, log_variance).mean(dim=0)
            n_genes = len(decoder.log_dispersion)
            return (loss * batch.real).sum() / n_genes, (kl * batch.real).sum() / n_genes


def _by_pair(cells: torch.Tensor, view: TokenBatch) -> torch.Tensor:
    """Put a view's cells, which stand in the order of their length, in that of their pairs."""
    return torch.empty_like(cells).index_copy(0, view.cells, cells)


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
