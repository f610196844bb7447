"""What a linear classifier of embeddings takes its answer from, token by token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd
import torch

from scenc._printing import Printed, PrintedTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scenc.data import TokenBatch
    from scenc.nn import CellTransformer

# Genes of a type that the printed table names.
_N_SHOWN = 5
INSTALL_CAPTUM = "Integrated gradients need captum: pip install 'scenc[explain]'."


@dataclass(frozen=True, eq=False, repr=False)
class Attributions(Printed):
    """What genes contribute to the score of a type, in the mean over cells of that type.

    Made by `scenc.Model.attributions`; drawn by `scenc.pl.attributions`.

    Attributes
    ----------
    table
        Genes x types: a gene's mean contribution to the type's score, on the scale of log-odds,
        over cells of the type; a cell that does not express the gene counts as 0.
    wilcoxon
        Genes x types: z scores of a Wilcoxon test of each type against all other cells, on
        normalised expression of the same data; NaN for types without a test and genes without
        variance.
    completeness_error
        Of each type: how far contributions are from adding up to the change of the score that they
        explain, in the mean over cells and as a share of the mean change. Small is good; more steps
        make it smaller.
    n_cells
        Of each type: number of cells explained.
    accuracy
        Of each type: share of its cells that the classifier gives to it, in cells that it was
        trained on where it was fitted here.

    Examples
    --------
    >>> found = model.attributions(labels_key="cell_type", max_cells=5, n_steps=5)
    >>> top = found.table["B cell"].nlargest(10)  # genes that speak most for B cells
    >>> agreement = found.agreement()  # with a Wilcoxon test
    >>> int(found.n_cells["B cell"])
    5
    """

    table: pd.DataFrame
    wilcoxon: pd.DataFrame
    completeness_error: pd.Series[float]
    n_cells: pd.Series[int]
    accuracy: pd.Series[float] = field(default_factory=lambda: pd.Series(dtype=float))

    def agreement(self, n: int = 20) -> pd.DataFrame:
        """Compare contributions with the Wilcoxon test.

        Parameters
        ----------
        n
            Number of genes that the top lists have.

        Returns
        -------
        One row per type: ``spearman`` over all genes, and ``shared_top``, the share of the `n`
        genes with the largest contributions that are among the `n` with the largest z scores.
        """
        shared = {
            name: len(set(_top(self.table[name], n)) & set(_top(self.wilcoxon[name], n))) / n
            for name in self.table
        }
        spearman = self.table.corrwith(self.wilcoxon, method="spearman")
        return pd.DataFrame({"spearman": spearman, "shared_top": pd.Series(shared)})

    def _table(self) -> PrintedTable:
        numbers = zip(
            self.n_cells, self.completeness_error, self.agreement()["spearman"], strict=True
        )
        rows = [
            (str(name), f"{n:,}", f"{error:.1%}", f"{spearman:.2f}", ", ".join(_top(column)))
            for (name, column), (n, error, spearman) in zip(
                self.table.items(), numbers, strict=True
            )
        ]
        header = ("type", "cells", "completeness error", "with Wilcoxon", "genes")
        title = f"Attributions: {len(self.table):,} genes, {self.table.shape[1]} types"
        note = "with Wilcoxon: Spearman's correlation with the z scores of the test"
        return PrintedTable(title, rows, "<>>><", header, notes=(note,))


def require_captum() -> None:
    """Refuse to go on without captum, by the line that installs it.

    Raises
    ------
    ImportError
        captum is not installed.

    Examples
    --------
    >>> scenc.tasks.require_captum()  # nothing happens where captum is installed
    """
    try:
        import captum.attr  # noqa: F401
    except ImportError as error:
        raise ImportError(INSTALL_CAPTUM) from error


def attribute_tokens(
    network: CellTransformer,
    batch: TokenBatch,
    weights: torch.Tensor,
    offsets: torch.Tensor,
    by_mask: bool,
    n_steps: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attribute the score of each cell to its tokens, by integrated gradients.

    The path leads from the cell's genes without their expression to the cell (a token of the depth
    stays as it is): expression vectors
    go from a baseline to their own, and the tokens' weights in the embedding from 0 to their own
    (under ``pooling="expression"``; means over tokens have no weights to change).

    Parameters
    ----------
    network
        The network, in evaluation.
    batch
        The cells, none of them empty.
    weights, offsets
        Direction and offset of the type each cell is explained for, ``(n_cells, d_model)`` and
        ``(n_cells,)``.
    by_mask
        Whether expression begins at the mask vector, or else at the vector of x~ = 0.
    n_steps
        Points of the path that gradients are taken at.

    Returns
    -------
    Contributions, shape ``(n_cells, n_tokens)``, 0 at padding; the score at the end of the path,
    and that at its beginning, shape ``(n_cells,)``.

    References
    ----------
    Sundararajan, Taly and Yan (2017), Axiomatic attribution for deep networks.

    Examples
    --------
    >>> import torch
    >>> config = scenc.nn.ModelConfig(expression_encoder="raw", n_layers=1)
    >>> network = scenc.nn.CellTransformer(config, n_genes=adata.n_vars).eval()
    >>> rows = scenc.data.open_rows(adata.X)
    >>> tokens = scenc.data.TokenDataset(rows, np.arange(adata.n_vars), scenc.data.Tokenizer(50))
    >>> batch = tokens[scenc.data.Request(np.arange(4), seed=0)]
    >>> contributions, end, start = scenc.tasks.attribute_tokens(
    ...     network, batch, torch.randn(4, 64), torch.zeros(4), by_mask=False, n_steps=10
    ... )
    >>> contributions.shape, end.shape
    (torch.Size([4, 50]), torch.Size([4]))
    """
    from captum.attr import IntegratedGradients

    with torch.no_grad():
        tokens, token_weights = network.embed_tokens(batch), network.pooling_weights(batch)
        depth = network.depth_tokens(batch)
        genes = network.gene_encoder(batch.genes)
        start = genes + (network.mask_token if by_mask else _vector_of_zero(network, batch))
    by_expression = network.config.pooling == "expression"
    start_weights = torch.zeros_like(token_weights) if by_expression else token_weights

    def score(
        tokens: torch.Tensor,
        token_weights: torch.Tensor,
        lengths: torch.Tensor,
        weights: torch.Tensor,
        offsets: torch.Tensor,
        depth: torch.Tensor | None,
    ) -> torch.Tensor:
        embedding = network.embed_vectors(tokens, token_weights, lengths, depth)
        return (embedding * weights).sum(dim=1) + offsets

    others = (batch.lengths, weights, offsets, depth)
    found = IntegratedGradients(score).attribute(
        (tokens, token_weights),
        (start, start_weights),
        additional_forward_args=others,
        n_steps=n_steps,
        internal_batch_size=batch.n_cells,
    )
    of_vectors, of_weights = (part.detach() for part in found)
    with torch.no_grad():
        end, beginning = score(tokens, token_weights, *others), score(start, start_weights, *others)
    contributions = torch.where(batch.valid, of_vectors.sum(dim=2) + of_weights, 0)
    return contributions, end, beginning


def _vector_of_zero(network: CellTransformer, batch: TokenBatch) -> torch.Tensor:
    """Return the expression vector of a gene that is not expressed, shape ``(1, d_model)``."""
    reads = network.expression_encoder.reads
    zero = torch.zeros(1, dtype=getattr(batch, reads).dtype, device=network.device)
    vector: torch.Tensor = network.expression_encoder(zero)
    return vector


def _top(column: pd.Series[float], n: int = _N_SHOWN) -> list[str]:
    ordered: Iterable[str] = column.dropna().sort_values(ascending=False, kind="stable").index[:n]
    return [str(name) for name in ordered]
