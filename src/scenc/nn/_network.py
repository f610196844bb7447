from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional as F

from scenc._torch_settings import full_precision
from scenc.data import Packing
from scenc.nn._counts import Bottleneck, CountDecoder
from scenc.nn._depth import DepthToken
from scenc.nn._mlp import FullLinear, mlp
from scenc.nn._transformer import Transformer
from scenc.nn.expression import build_expression_encoder
from scenc.nn.genes import GeneEncoder, LearnedGeneEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scenc.data import TokenBatch
    from scenc.nn._config import ModelConfig


class CellTransformer(nn.Module):
    """Tokens to vectors, vectors through a transformer, then pooled or decoded (eq. 4-10).

    ``center``, shape ``(d_model,)``, is subtracted from every cell's embedding under
    ``pooling="expression"``.

    Parameters
    ----------
    config
        Sizes and choices.
    n_genes
        Size of the vocabulary.
    gene_encoder
        The gene encoder, if it is not the learned table.
    edges
        Inner edges of the hard bins for ``hard_edges="global"``.
    n_categories
        Number of categories of each covariate that the generative objective's decoder is told; the
        first is the batch.

    Examples
    --------
    >>> config = scenc.nn.ModelConfig(expression_encoder="raw", n_layers=1)
    >>> network = scenc.nn.CellTransformer(config, n_genes=adata.n_vars)
    >>> rows = scenc.data.open_rows(adata.X)
    >>> tokens = scenc.data.TokenDataset(rows, np.arange(adata.n_vars), scenc.data.Tokenizer())
    >>> batch = tokens[scenc.data.Request(np.arange(8), seed=0)]  # the first eight cells
    >>> network.embed_cells(batch).shape
    torch.Size([8, 64])
    """

    def __init__(
        self,
        config: ModelConfig,
        n_genes: int,
        gene_encoder: GeneEncoder | None = None,
        edges: torch.Tensor | None = None,
        n_categories: Sequence[int] = (1,),
    ) -> None:
        super().__init__()
        d_model = config.d_model
        self.config = config
        # Spectral gene vectors are loadings times the root of the number of genes.
        self._unit = n_genes**-0.5
        self.gene_encoder = gene_encoder or LearnedGeneEncoder(
            n_genes, d_model, config.init_std, layer_norm=config.encoder_norm
        )
        self.expression_encoder = build_expression_encoder(config, edges)
        self.mask_token = nn.Parameter(torch.randn(d_model) * config.init_std)
        self.transformer = Transformer(
            config.n_layers,
            d_model,
            config.n_heads,
            config.d_feedforward,
            config.dropout,
            config.norm,
            config.activation,
        )
        self.decoder = mlp(d_model, d_model, 1, config.activation, last=FullLinear)
        if config.residual_init == "zero":
            self.expression_encoder.start_at_zero()
            self.transformer.start_at_zero()
        self.depth_token = None
        if config.depth_token:
            self.depth_token = DepthToken(d_model, config.target_sum, config.activation)
        if config.pooling == "expression":
            self.register_buffer("center", torch.zeros(d_model))
        if config.objective == "generative":
            self.bottleneck = Bottleneck(d_model)
            self.count_decoder = CountDecoder(
                d_model,
                config.decoder_hidden,
                n_genes,
                n_categories,
                zero_inflated=config.likelihood == "zinb",
            )

    center: torch.Tensor

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mask_token.device

    def embed_tokens(self, batch: TokenBatch) -> torch.Tensor:
        """Return z_0 = e_g + e_x, e_x being m at masked tokens (eq. 4-7).

        Returns
        -------
        Shape ``(n_cells, n_tokens, d_model)``.
        """
        return self._tokens(batch, lambda of_tokens: of_tokens)

    def _tokens(
        self, batch: TokenBatch, take: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Return z_0 of those tokens that `take` takes from ``(n_cells, n_tokens)``."""
        # Sixteen bits would round an x~ above 4 to a multiple of 1/32; distinct values are few.
        with full_precision(self.device):
            values = self.expression_encoder.encode(batch)
        expression = F.embedding(take(batch.value_index), values)
        if batch.max_masked:
            hidden = take(F.pad(batch.masked, (0, batch.n_tokens - batch.max_masked)))
            expression = torch.where(
                hidden[..., None], self.mask_token.to(expression.dtype), expression
            )
        tokens: torch.Tensor = self.gene_encoder(take(batch.genes)) + expression
        return tokens

    def embed_cells(
        self, batch: TokenBatch, read_out: Literal["expression"] | int | None = None
    ) -> torch.Tensor:
        """Return each cell's embedding, ``(n_cells, d_model)``; 0 for empty cells.

        The tokens that are not masked count: their mean, or as `ModelConfig.pooling` says.

        Parameters
        ----------
        batch
            The cells.
        read_out
            Another mean than the paper's, for ``pooling="mean"``: ``"expression"`` weights the last
            layer's tokens by x~; a number takes the tokens after so many blocks, before the final
            norm (0: as they enter the first).
        """
        if read_out is None:
            states = self._hidden_states(batch)
            return torch.cat([self._pool(batch, cells, hidden) for cells, hidden in states])
        by_expression = read_out == "expression"
        n_blocks = self.config.n_layers if isinstance(read_out, str) else read_out
        found = []
        for cells, width, tokens, attend in self._entering(batch):
            hidden = next(islice(self.transformer.layers(tokens, attend), n_blocks, None))
            hidden = _padded(hidden, attend, width)
            if by_expression:
                hidden = self.transformer.final_norm(hidden)
            found.append(_mean(hidden, *_weights(batch, cells, width, by_expression)))
        return torch.cat(found)

    def reconstruct(self, batch: TokenBatch) -> torch.Tensor:
        """Predict x~ of the tokens that may be masked (eq. 9).

        Returns
        -------
        Shape ``(n_cells, max_masked)``; arbitrary where a cell has fewer masked tokens.
        """
        return torch.cat(
            [self._decode(hidden, batch.max_masked) for _, hidden in self._hidden_states(batch)]
        )

    def embed_and_reconstruct(self, batch: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `embed_cells` and `reconstruct` do, in one pass."""
        embedded, decoded = [], []
        for cells, hidden in self._hidden_states(batch):
            embedded.append(self._pool(batch, cells, hidden))
            decoded.append(self._decode(hidden, batch.max_masked))
        return torch.cat(embedded), torch.cat(decoded)

    def _hidden_states(self, batch: TokenBatch) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield z_n (eq. 8) of each run of cells, as wide as its longest cell, unnormalised."""
        for cells, width, tokens, attend in self._entering(batch):
            yield cells, _padded(self.transformer.hidden_states(tokens, attend), attend, width)

    def _entering(
        self, batch: TokenBatch
    ) -> Iterator[tuple[slice, int, torch.Tensor, torch.Tensor | Packing | None]]:
        """Yield of each run of cells its width, its tokens and what they may attend to.

        Tokens of genes fill the width; a token of the cell's depth stands behind them.
        """
        depth = self.depth_tokens(batch)
        if batch.packing is not None:
            tokens, packing = self._tokens(batch, batch.packing.pack), batch.packing
            if depth is not None:
                tokens, packing = packing.with_last(tokens, depth.to(tokens.dtype))
            yield slice(0, batch.n_cells), batch.n_tokens, tokens, packing
            return
        tokens, keys = self.embed_tokens(batch), visible_keys(batch)
        for start, end, width, is_padded in batch.length_buckets:
            cells = slice(start, end)
            attend = keys[cells, None, None, :width] if is_padded else None
            own = None if depth is None else depth[cells]
            yield cells, width, *_with_depth(tokens[cells, :width], attend, own)

    def _pool(self, batch: TokenBatch, cells: slice, hidden: torch.Tensor) -> torch.Tensor:
        """Embed a run of cells from their tokens."""
        by_expression = self.config.pooling == "expression"
        weights, total = _weights(batch, cells, hidden.shape[1], by_expression)
        pooled = _mean(self._pooled_states(hidden), weights, total)
        if by_expression:
            # A mean over the tokens shown, scaled to the sum over all genes of the cell.
            if batch.totals is None:
                raise ValueError("Pooling by expression needs Tokenizer(totals=True).")
            pooled = (pooled * batch.totals[cells, None] - self.center) * self._unit
            pooled = torch.where(total > 0, pooled, 0)
        return pooled

    def token_states(self, batch: TokenBatch) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield the vectors that embeddings are means of, a run of cells of similar length a time.

        These are the last block's hidden states, after the final norm under ``pooling="mean"``.

        Yields
        ------
        The cells, and their tokens' vectors, shape ``(n_cells, n_tokens, d_model)``; arbitrary at
        padding.
        """
        for cells, hidden in self._hidden_states(batch):
            yield cells, self._pooled_states(hidden)

    def pooling_weights(self, batch: TokenBatch) -> torch.Tensor:
        """Return what tokens are weighted by in their cell's embedding, ``(n_cells, n_tokens)``.

        For a batch without masks: x~, scaled such that it adds up to ``totals``, under
        ``pooling="expression"``, else one over the number of tokens.
        """
        shown = batch.valid.float()
        if self.config.pooling != "expression":
            return shown / batch.lengths.clamp(min=1)[:, None]
        if batch.totals is None:
            raise ValueError("Pooling by expression needs Tokenizer(totals=True).")
        values = batch.values()
        total = values.sum(dim=1, keepdim=True)
        return values / torch.where(total > 0, total, 1) * batch.totals[:, None]

    def attention_weights(self, batch: TokenBatch) -> Iterator[torch.Tensor]:
        """Yield each block's attention of a batch without masks, as `SelfAttention.weights`.

        A token of the depth, if there is one, has the last row and column.
        """
        tokens, depth = self.embed_tokens(batch), self.depth_tokens(batch)
        tokens, seen = _with_depth(tokens, batch.valid, depth)
        yield from self.transformer.attention_weights(tokens, seen[:, None, None])

    def depth_tokens(self, batch: TokenBatch) -> torch.Tensor | None:
        """Return each cell's token of its depth, ``(n_cells, d_model)``; None without them."""
        return None if self.depth_token is None else self.depth_token.encode(batch)

    def embed_vectors(
        self,
        tokens: torch.Tensor,
        weights: torch.Tensor,
        lengths: torch.Tensor,
        depth: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embed cells whose tokens' vectors and weights are given: a function to differentiate.

        With those of a batch (`embed_tokens`, `pooling_weights`, `depth_tokens`) it is
        `embed_cells`, save for empty cells.

        Parameters
        ----------
        tokens
            Vectors before the transformer, shape ``(n_cells, n_tokens, d_model)``.
        weights
            What tokens count for in the embedding, shape ``(n_cells, n_tokens)``.
        lengths
            Number of tokens of each cell, which stand first, shape ``(n_cells,)``; at least 1.
        depth
            What `depth_tokens` returns.

        Returns
        -------
        Shape ``(n_cells, d_model)``.
        """
        seen = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        entering, seen = _with_depth(tokens, seen, depth)
        hidden = self.transformer.hidden_states(entering, seen[:, None, None])
        hidden = self._pooled_states(hidden[:, : tokens.shape[1]])
        pooled = torch.einsum("ct,ctd->cd", weights, hidden.float())
        if self.config.pooling == "expression":
            pooled = (pooled - self.center) * self._unit
        return pooled

    def _pooled_states(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return what embeddings are means of."""
        if self.config.pooling == "expression":
            return hidden
        normed: torch.Tensor = self.transformer.final_norm(hidden)
        return normed

    def _decode(self, hidden: torch.Tensor, max_masked: int) -> torch.Tensor:
        """Decode the tokens of a run of cells that may be masked."""
        masked = self.transformer.final_norm(hidden[:, :max_masked])
        values = self.decoder(masked)[..., 0]
        return F.pad(values, (0, max_masked - values.shape[1]))

    def squared_errors(self, batch: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each cell's sum of squared errors over its masked tokens, and their number.

        Returns
        -------
        Two tensors of shape ``(n_cells,)``.
        """
        error = torch.where(batch.masked, self.reconstruct(batch) - batch.targets(), 0)
        return error.square().sum(dim=1), batch.n_masked

    def predict(self, batch: TokenBatch, genes: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Predict x~ of named genes from the cell's other genes.

        Each named gene becomes a masked token that sees itself and the cell's tokens, except those
        of hidden genes, which nothing sees. A prediction thus does not depend on the genes named
        beside it.

        Parameters
        ----------
        batch
            Cells, unmasked.
        genes
            Vocabulary indices to predict, shape ``(n_named,)``.
        hidden
            Vocabulary indices to hide from the cell, shape ``(n_hidden,)``.

        Returns
        -------
        Shape ``(n_cells, n_named)``.
        """
        n_named = len(genes)
        queries = self.gene_encoder(genes) + self.mask_token
        seen = batch.valid & ~torch.isin(batch.genes, hidden)
        tokens, seen = _with_depth(self.embed_tokens(batch), seen, self.depth_tokens(batch))
        n_tokens = tokens.shape[1]
        tokens = torch.cat([tokens, queries.expand(batch.n_cells, n_named, -1)], dim=1)
        itself = torch.eye(n_tokens + n_named, dtype=torch.bool, device=genes.device)
        attend = F.pad(seen, (0, n_named))[:, None] | itself
        encoded = self.transformer(tokens, attend[:, None])[:, n_tokens:]
        decoded: torch.Tensor = self.decoder(encoded)
        return decoded[..., 0]


def _weights(
    batch: TokenBatch, cells: slice, width: int, by_expression: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what each token of a run of cells weighs in a mean, and each cell's sum of weights.

    Masked tokens and padding weigh nothing, others 1 or their x~.
    """
    position = torch.arange(width, device=batch.lengths.device)
    shown = (position < batch.lengths[cells, None]) & (position >= batch.n_masked[cells, None])
    weights = shown.float()
    if by_expression:
        weights = weights * batch.normalized[batch.value_index[cells, :width]]
    return weights, weights.sum(dim=1, keepdim=True)


def _mean(hidden: torch.Tensor, weights: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean of each cell's tokens, ``(n_cells, d_model)``; 0 without weights."""
    weights = weights / torch.where(total > 0, total, 1)
    with full_precision(hidden.device):
        return torch.einsum("ct,ctd->cd", weights, hidden.float())


def _padded(
    hidden: torch.Tensor, attend: torch.Tensor | Packing | None, width: int
) -> torch.Tensor:
    """Return tokens of genes, ``(n_cells, width, d_model)``, as what they attended to says."""
    return (attend.unpack(hidden) if isinstance(attend, Packing) else hidden)[:, :width]


def visible_keys(batch: TokenBatch) -> torch.Tensor:
    """Return the tokens that may be attended to, shape ``(n_cells, n_tokens)``.

    The first stays visible in a cell without any, since attention to nothing is undefined; such a
    cell's tokens are left out of everything that follows.
    """
    keys = batch.valid
    keys[:, 0] = True
    return keys


def _with_depth[Mask: (torch.Tensor, torch.Tensor | None)](
    tokens: torch.Tensor, seen: Mask, depth: torch.Tensor | None
) -> tuple[torch.Tensor, Mask]:
    """Put tokens of the depth behind the others, if there are any; all tokens may attend to them.

    `seen` are the tokens that may be attended to, over its last dimension.
    """
    if depth is None:
        return tokens, seen
    tokens = torch.cat([tokens, depth[:, None].to(tokens.dtype)], dim=1)
    return tokens, seen if seen is None else F.pad(seen, (0, 1), value=True)
