"""From a cell's embedding back to its counts: a bottleneck, a decoder and their likelihood.

This is what scVI does (Lopez et al. 2018), with the transformer's embedding in the encoder's place:

    z ~ Normal(mean(e), variance(e))            Bottleneck
    rho = softmax(decoder(z, covariates))       CountDecoder
    count ~ NegativeBinomial(rho * library, theta)

The network that makes e sees no covariate. The decoder is told them, so z need not hold what they
explain: this is how differences between batches leave the embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from scenc.nn._mlp import FullLinear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scenc.data import CellCounts

# Logarithm of the scale and of the variance that a bottleneck begins with.
_FIRST_SCALE, _FIRST_VARIANCE = -1.0, -2.0
# Added to a gene's mean share of counts, so that a gene that is never counted has a logarithm.
_TINY_SHARE = 1e-7


class Bottleneck(nn.Module):
    """Turn an embedding e into a normal distribution of z (the encoder's end of a VAE).

    The mean is e times one trained scale, so that e keeps its shape and its units; the logarithm of
    the variance is linear in the layer-normalised e.

    Parameters
    ----------
    d_model
        Number of dimensions.

    Examples
    --------
    >>> import torch
    >>> bottleneck = scenc.nn.Bottleneck(d_model=64)
    >>> mean, log_variance = bottleneck(torch.randn(3, 64))  # of three cells
    >>> mean.shape, log_variance.shape
    (torch.Size([3, 64]), torch.Size([3, 64]))
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(_FIRST_SCALE))
        self.log_variance = FullLinear(d_model, d_model)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, _FIRST_VARIANCE)

    def forward(self, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean of z and the logarithm of its variance, each ``(n_cells, d_model)``."""
        normed = F.layer_norm(embedding, embedding.shape[-1:])
        return embedding * self.log_scale.exp(), self.log_variance(normed)


class Decoded(NamedTuple):
    """What a decoder says of cells.

    Attributes
    ----------
    log_share
        Logarithm of each gene's expected share of the cell's counts, rho, ``(n_cells, n_genes)``.
    zero_logit
        Logit of the probability that a count is zero for a technical reason, of the same shape;
        ``None`` under the plain negative binomial.

    Examples
    --------
    >>> import torch
    >>> decoder = scenc.nn.CountDecoder(d_model=64, n_hidden=128, n_genes=2000, n_categories=[1])
    >>> decoded = decoder(torch.randn(3, 64), torch.zeros(3, 1, dtype=torch.long))
    >>> decoded.log_share.exp().shape  # each gene's share of a cell's counts
    torch.Size([3, 2000])
    >>> decoded.zero_logit is None  # the plain negative binomial
    True
    """

    log_share: torch.Tensor
    zero_logit: torch.Tensor | None


class CountDecoder(nn.Module):
    """Turn z and a cell's covariates into each gene's share of the cell's counts.

    One hidden layer, to which each covariate's category adds a vector; each category also adds a
    number to each gene's logit, zero at first.

    Parameters
    ----------
    d_model, n_hidden, n_genes
        Number of dimensions of z, of hidden units and of genes.
    n_categories
        Number of categories of each covariate; the first is the batch.
    zero_inflated
        Whether counts may also be zero for a technical reason.

    Attributes
    ----------
    log_dispersion
        Logarithm of each gene's inverse dispersion theta, ``(n_genes,)``.

    Examples
    --------
    >>> import torch
    >>> decoder = scenc.nn.CountDecoder(d_model=64, n_hidden=128, n_genes=2000, n_categories=[2])
    >>> batches = torch.tensor([[0], [1], [1]])  # the one covariate of three cells
    >>> decoded = decoder(torch.randn(3, 64), batches)
    >>> decoded.log_share.shape
    torch.Size([3, 2000])
    """

    def __init__(
        self,
        d_model: int,
        n_hidden: int,
        n_genes: int,
        n_categories: Sequence[int],
        zero_inflated: bool = False,
    ) -> None:
        super().__init__()
        self.hidden = FullLinear(d_model, n_hidden)
        self.norm = nn.LayerNorm(n_hidden)
        self.output = FullLinear(n_hidden, n_genes)
        self.zero_output = FullLinear(n_hidden, n_genes) if zero_inflated else None
        self.log_dispersion = nn.Parameter(torch.zeros(n_genes))
        # A category's row of each: what it adds to hidden units, and to genes' logits.
        self.shifts = nn.ParameterList(torch.randn(n, n_hidden) for n in n_categories)
        self.biases = nn.ParameterList(torch.zeros(n, n_genes) for n in n_categories)

    @torch.no_grad()
    def start_at(self, mean_share: torch.Tensor) -> None:
        """Begin with the cells' mean share of each gene, shape ``(n_genes,)``, for all cells."""
        self.output.bias.copy_((mean_share + _TINY_SHARE).log())
        self.output.weight.zero_()

    @torch.no_grad()
    def extend(self, n_categories: Sequence[int]) -> None:
        """Make room for further categories; they begin as the mean of those there are."""
        for tables in (self.shifts, self.biases):
            for place, n in enumerate(n_categories):
                known = tables[place]
                if n > len(known):
                    new = known.mean(dim=0).expand(n - len(known), -1)
                    tables[place] = nn.Parameter(torch.cat([known, new]))

    def forward(self, latent: torch.Tensor, covariates: torch.Tensor) -> Decoded:
        """Decode cells.

        Parameters
        ----------
        latent
            z, shape ``(n_cells, d_model)``.
        covariates
            Category of each covariate, as a number, shape ``(n_cells, n_covariates)``.
        """
        hidden = self.hidden(latent)
        for table, codes in zip(self.shifts, covariates.T, strict=True):
            hidden = hidden + F.embedding(codes, table)
        hidden = F.relu(self.norm(hidden.float()))
        logits = self.output(hidden)
        for table, codes in zip(self.biases, covariates.T, strict=True):
            logits = logits + F.embedding(codes, table)
        zero_logit = None if self.zero_output is None else self.zero_output(hidden)
        return Decoded(logits.log_softmax(dim=1), zero_logit)


def kl_divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Return KL(Normal(mean, variance) || Normal(0, 1)) of each cell, shape ``(n_cells,)``.

    Parameters
    ----------
    mean, log_variance
        Of each cell's z, shape ``(n_cells, n_latent)``.

    Examples
    --------
    >>> import torch
    >>> scenc.nn.kl_divergence(torch.ones(2, 3), torch.zeros(2, 3))
    tensor([1.5000, 1.5000])
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=-1)


def count_loss(decoded: Decoded, log_dispersion: torch.Tensor, counts: CellCounts) -> torch.Tensor:
    """Return minus the log-likelihood of each cell's counts, shape ``(n_cells,)``.

    With a = log(mean / theta), the negative binomial is

        log p(x) = x a - (theta + x) softplus(a)
                   + lgamma(theta + x) - lgamma(theta) - lgamma(x + 1).

    At x = 0 only - theta softplus(a) is left. Most counts are zero: this part is worked out for all
    genes at once, and the rest for the counts that are not.

    Parameters
    ----------
    decoded
        What the decoder says of the cells.
    log_dispersion
        Logarithm of theta of each gene, shape ``(n_genes,)``.
    counts
        The counts of the same cells.

    Examples
    --------
    >>> import torch
    >>> decoder = scenc.nn.CountDecoder(d_model=64, n_hidden=128, n_genes=3, n_categories=[1])
    >>> counts = scenc.data.CellCounts(
    ...     cell=torch.tensor([0, 0, 1]),
    ...     gene=torch.tensor([0, 2, 1]),
    ...     value=torch.tensor([1.0, 3.0, 2.0]),
    ...     library=torch.tensor([4.0, 2.0]),
    ...     covariates=torch.zeros(2, 1, dtype=torch.long),
    ... )
    >>> decoded = decoder(torch.randn(2, 64), counts.covariates)
    >>> scenc.nn.count_loss(decoded, decoder.log_dispersion, counts).shape
    torch.Size([2])
    """
    theta = log_dispersion.exp()
    a = decoded.log_share + counts.library.log()[:, None] - log_dispersion
    soft = F.softplus(a)
    cell, gene, x = counts.cell, counts.gene, counts.value
    place = cell * a.shape[1] + gene
    # The gradient of theta[gene] would be summed in an order that changes with several threads.
    own_theta = theta.index_select(0, gene)
    counted = (
        x * a.flatten()[place]
        - x * soft.flatten()[place]
        + torch.lgamma(own_theta + x)
        - torch.lgamma(own_theta)
        - torch.lgamma(x + 1)
    )
    if decoded.zero_logit is None:
        at_zero = -(soft @ theta)
    else:
        # A count is zero for a technical reason, or since the negative binomial says so:
        # log(sigmoid(l) + sigmoid(-l) p(0)) = log(exp(l) + p(0)) - softplus(l).
        as_zero = -soft * theta
        either = torch.logaddexp(decoded.zero_logit, as_zero)
        at_zero = (either - F.softplus(decoded.zero_logit)).sum(dim=1)
        counted = counted + (as_zero - either).flatten()[place]
    return -at_zero.index_add(0, cell, counted)
