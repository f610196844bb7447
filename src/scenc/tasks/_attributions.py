"""What a linear classifier of embeddings takes its answer from, token by token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scenc._printing import Printed, PrintedTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    from scenc.data import TokenBatch
    from scenc.nn import CellTransformer

# Genes of a type that the printed table names.
_N_SHOWN = 5
INSTALL_CAPTUM = "Integrated gradients need captum: pip install 'scenc[explain]'."


@dataclass(frozen=True, slots=True)
class Directions:
    """A linear classifier's directions in the embedding: a score for each type.

    Attributes
    ----------
    types
        Names of the types.
    weights
        The direction of each type, shape ``(n_types, d_model)``.
    offsets
        What is added to each type's score, shape ``(n_types,)``.
    """

    types: pd.Index[str]
    weights: NDArray[np.float64]
    offsets: NDArray[np.float64]

    def scores(self, embedding: NDArray[Any]) -> NDArray[np.float64]:
        """Return each cell's score for each type, shape ``(n_cells, n_types)``."""
        found: NDArray[np.float64] = embedding @ self.weights.T + self.offsets
        return found

    def predict(self, embedding: NDArray[Any]) -> NDArray[np.int64]:
        """Return the number of the type with the highest score, shape ``(n_cells,)``."""
        return self.scores(embedding).argmax(axis=1)


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


def fit_directions(
    embedding: NDArray[np.floating[Any]], labels: ArrayLike, seed: int = 0
) -> Directions:
    """Fit a logistic regression to standardised dimensions of an embedding.

    Parameters
    ----------
    embedding
        Shape ``(n_cells, d_model)``.
    labels
        Type of each cell, shape ``(n_cells,)``.
    seed
        Of the regression.

    Raises
    ------
    ValueError
        There are fewer than two types.
    """
    names = np.asarray(labels, dtype=object).astype(str)
    if len(np.unique(names)) < 2:
        raise ValueError(
            f"A classifier needs two types or more, and all {len(names)} cells are "
            f"{names[0] if len(names) else 'none'!r}. Fit it on cells of several types and pass "
            "it as classifier."
        )
    regression = LogisticRegression(max_iter=2000, random_state=seed)
    return read_directions(
        make_pipeline(StandardScaler(), regression).fit(np.asarray(embedding, np.float64), names)
    )


def read_directions(classifier: Any, width: int | None = None) -> Directions:
    """Read the directions of a fitted linear classifier.

    Parameters
    ----------
    classifier
        A linear classifier of scikit-learn, alone or after a `StandardScaler` in a pipeline; or a
        DataFrame with a direction in each row, types as index.
    width
        Number of dimensions it must have; ``None``: any.

    Returns
    -------
    Of two types, each has half the classifier's direction, with the sign of its side.

    Raises
    ------
    TypeError
        It is none of these.
    ValueError
        It is for another number of dimensions.
    """
    if isinstance(classifier, pd.DataFrame):
        weights = classifier.to_numpy(np.float64)
        found = Directions(classifier.index.astype(str), weights, np.zeros(len(weights)))
    else:
        found = _read_estimator(classifier)
    if width is not None and found.weights.shape[1] != width:
        raise ValueError(
            f"The classifier is for {found.weights.shape[1]} dimensions, and the model's embedding "
            f"has {width}: fit it on model.get_latent_representation()."
        )
    return found


def _read_estimator(classifier: Any) -> Directions:
    steps = [step for _, step in classifier.steps] if hasattr(classifier, "steps") else [classifier]
    scaler, last = (steps[0] if len(steps) == 2 else None), steps[-1]
    if (
        len(steps) > 2
        or not (scaler is None or isinstance(scaler, StandardScaler))
        or not all(hasattr(last, name) for name in ("coef_", "intercept_", "classes_"))
    ):
        raise TypeError(
            f"classifier must be a fitted linear classifier of scikit-learn, alone or after a "
            f"StandardScaler, or a DataFrame of directions (types x dimensions), got "
            f"{type(classifier).__name__}."
        )
    weights, offsets = np.asarray(last.coef_, np.float64), np.asarray(last.intercept_, np.float64)
    offsets = np.broadcast_to(offsets, (len(weights),))
    if len(weights) == 1:
        weights, offsets = (
            np.vstack([-weights, weights]) / 2,
            np.stack([-offsets, offsets])[:, 0] / 2,
        )
    if scaler is not None:
        scale = scaler.scale_ if scaler.scale_ is not None else np.ones(weights.shape[1])
        mean = scaler.mean_ if scaler.mean_ is not None else np.zeros(weights.shape[1])
        weights = weights / scale
        offsets = offsets - weights @ mean
    return Directions(pd.Index(np.asarray(last.classes_).astype(str)), weights, offsets)


def require_captum() -> None:
    """Refuse to go on without captum, by the line that installs it.

    Raises
    ------
    ImportError
        captum is not installed.
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

    The path leads from the cell's genes without their expression to the cell: expression vectors
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
    """
    from captum.attr import IntegratedGradients

    with torch.no_grad():
        tokens, token_weights = network.embed_tokens(batch), network.pooling_weights(batch)
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
    ) -> torch.Tensor:
        embedding = network.embed_vectors(tokens, token_weights, lengths)
        return (embedding * weights).sum(dim=1) + offsets

    others = (batch.lengths, weights, offsets)
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
