"""Why a model says what it says: attributions, deletions of genes, and attention for comparison."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scanpy as sc
import torch
from anndata import AnnData
from scipy.stats import ttest_ind
from scvi.model.base import BaseModelClass
from tqdm.auto import tqdm

from scenc._arguments import choose
from scenc._threads import kept_threads
from scenc.model._attention import AttentionSums, correlations, off_diagonal_spearman
from scenc.model._gene_space import column_of, draw_cells, normalised_expression
from scenc.model._inference import apply_to_cells, inference_precision, token_batches
from scenc.model._initial import make_tokenizer
from scenc.tasks import (
    Attributions,
    LabelClassifier,
    attribute_tokens,
    fit_directions,
    gene_levels,
    genes_of_like_expression,
    read_directions,
    require_captum,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import scipy.sparse as sp
    from mudata import MuData
    from numpy.typing import NDArray

    from scenc.model._aligned_counts import AlignedCounts
    from scenc.nn import CellTransformer, ModelConfig
    from scenc.tasks import Directions, GeneLevels
    from scenc.train import TrainConfig

logger = logging.getLogger(__name__)

# Labelled cells that the classifier is fitted on and genes are tested in, drawn if there are more.
_MOST_LABELLED = 20_000
# Completeness errors above this share are warned about.
_MOST_INCOMPLETE = 0.05
# Cells with a deleted gene that are in memory together.
_DELETED_TOGETHER = 4096
# Cells whose attention, genes x genes each, is in memory together.
_ATTENTION_CELLS = 8


class ExplanationsMixin(BaseModelClass):
    """The methods of a model that explain it."""

    config: ModelConfig
    vocabulary: pd.Index[str]
    module: CellTransformer
    train_config: TrainConfig | None

    def attributions(
        self,
        adata: AnnData | MuData | None = None,
        labels_key: str | None = None,
        classifier: Any = None,
        *,
        max_cells: int = 100,
        n_steps: int = 50,
        baseline: Literal["auto", "zero", "mask"] = "auto",
        batch_size: int = 32,
        precision: str = "auto",
        seed: int = 0,
        progress: bool = True,
    ) -> Attributions:
        """Attribute types to genes by integrated gradients, beside a Wilcoxon test.

        What is explained is a linear classifier's score of a cell's type on the embedding: the
        change of the score from the cell's genes without their expression to the cell is shared
        out over its genes. All genes of a cell are seen, whatever the context. This says what the
        classifier and the model use, which need not be what makes a cell what it is.

        Parameters
        ----------
        adata
            As in `get_latent_representation`.
        labels_key
            Column of obs with types; ``None``: that of `setup_anndata`. Cells without a value are
            left out. With `classifier` it may be missing: each cell is explained for the type that
            the classifier predicts.
        classifier
            A fitted linear classifier of scikit-learn on this model's embedding, alone or after a
            `StandardScaler` in a pipeline; what `fit_classifier` returned, by logistic regression;
            or a DataFrame of directions (types x dimensions). ``None``: a logistic regression is
            fitted to the labels.
        max_cells
            Cells of each type to explain, drawn if there are more.
        n_steps
            Points of the path from baseline to cell.
        baseline
            What expression begins at: the vector of x~ = 0 (``"zero"``) or the mask's
            (``"mask"``). ``"auto"``: the mask's, if the model was trained to predict masked genes.
        batch_size
            Cells per batch; changes speed and memory only.
        precision
            As in `get_latent_representation`.
        seed
            Of the draws and the regression.
        progress
            Whether to show progress.

        Returns
        -------
        Mean contributions, genes x types; z scores of the test; completeness errors.

        Raises
        ------
        ImportError
            captum is not installed (``pip install 'scenc[explain]'``).
        RuntimeError
            The model is not trained.
        KeyError
            `labels_key` is no column of obs.
        ValueError
            There are no labels, or fewer than two types to fit a classifier to, or a type is not
            among the classifier's.
        TypeError
            `classifier` is not linear.

        References
        ----------
        Sundararajan, Taly and Yan (2017), Axiomatic attribution for deep networks.

        Examples
        --------
        >>> found = model.attributions(labels_key="cell_type", max_cells=20)
        >>> print(found)
        >>> found.table["B cell"].nlargest(10)
        >>> scenc.pl.attributions(found)
        """
        require_captum()
        if isinstance(classifier, LabelClassifier):
            classifier = _directions_of(self._own_classifier(classifier))
        choose(baseline, ("auto", "zero", "mask"), "baseline")
        cells, rows = self._query(adata, None)
        names = self._labels(adata, labels_key, needed=classifier is None)
        rows = _with_counts(cells, rows if names is None else rows[names[rows].codes >= 0])
        rows = _draw(rows, _MOST_LABELLED, seed)
        cells = cells.select(rows)
        values = self._values(cells)
        embedding = self._embed_all_genes(cells, np.arange(len(rows)), precision=precision)
        labels = None if names is None else np.asarray(names[rows], dtype=object)
        if classifier is None:
            assert labels is not None
            directions = fit_directions(embedding, labels, seed)
        else:
            directions = read_directions(classifier, self.config.d_model)
        predicted = directions.predict(embedding)
        of = predicted if labels is None else _numbers(labels, directions)
        by_mask = self.predicts_masked_genes if baseline == "auto" else baseline == "mask"
        found = self._attribute(
            cells,
            of,
            directions,
            by_mask,
            n_steps,
            max_cells,
            batch_size,
            precision,
            seed,
            progress,
        )
        types = directions.types
        accuracy = pd.Series(of == predicted).groupby(types[of].to_numpy()).mean()
        wilcoxon = _wilcoxon(values, types[of], self.vocabulary)
        return replace(
            found,
            wilcoxon=wilcoxon.reindex(columns=found.table.columns),
            accuracy=accuracy.reindex(found.table.columns),
        )

    def delete_genes(
        self,
        genes: Sequence[str] | str,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        *,
        n_matched: int = 20,
        max_cells: int = 1000,
        batch_size: int | None = None,
        precision: str = "auto",
        seed: int = 0,
        progress: bool = True,
    ) -> pd.DataFrame:
        """Delete genes from cells and measure how far the embedding moves, beyond like genes.

        A gene's count is set to 0 in the cells that express it, one gene at a time, and these
        cells are embedded anew, with all their genes, whatever the context. Nothing else changes
        but the library size, which falls by that count. How far the embedding moves depends on how
        much a gene is expressed, so that each gene is compared with others that as many cells
        express as strongly: its sensitivity is what it moves the embedding beyond these. It is a
        property of the model, no effect of a knock-out on a cell.

        Parameters
        ----------
        genes
            Genes to delete, by any name `scenc.genes.match` knows.
        adata, indices, batch_size, precision
            As in `get_latent_representation`.
        n_matched
            Number of genes each is compared with: other genes of the vocabulary, none of `genes`.
        max_cells
            Cells to use, drawn if there are more.
        seed
            Of the draw.
        progress
            Whether to show progress.

        Returns
        -------
        One row per gene, as given:

        - ``n_cells``: cells that express it; ``expression``: its mean x~ in these;
        - ``shift``: mean Euclidean distance that the embedding moves, over these cells;
        - ``matched_expression``, ``matched_shift``: means over the genes it is compared with;
        - ``sensitivity``: ``shift`` minus ``matched_shift``; ``low``, ``high``: its 95 % interval
          (Welch's, over cells and over matched genes);
        - ``percentile``: of its shift among those of the matched genes, 0 to 100.

        NaN where no cell expresses it.

        Raises
        ------
        RuntimeError
            The model is not trained.
        ValueError
            The model does not know a gene, or there is no gene to compare with.

        Examples
        --------
        >>> model.delete_genes(["CD79A", "MS4A1", "LYZ"])
        """
        names = [genes] if isinstance(genes, str) else list(genes)
        if not names:
            raise ValueError("Name at least one gene (genes=[...]).")
        if n_matched < 1:
            raise ValueError(f"n_matched must be at least 1, got {n_matched}.")
        positions = self._positions(names)
        cells, rows = self._query(adata, indices)
        cells = cells.select(_draw(_with_counts(cells, rows), max_cells, seed))
        values = self._values(cells)
        levels = gene_levels(values)
        expressed = np.unique(positions[levels.n_cells[positions] > 0])
        matched = self._matched(levels, positions, expressed, n_matched)
        wanted = np.unique(np.concatenate([expressed, matched.ravel()]))
        shifts = self._shifts(cells, values, wanted, batch_size, precision, progress)
        at = dict(zip(expressed, matched, strict=True))
        table = [_deleted(gene, at.get(gene), levels, shifts) for gene in positions]
        return pd.DataFrame(table, index=pd.Index(names, name="gene"))

    def get_attention(
        self,
        genes: Sequence[str] | int = 200,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        *,
        max_cells: int = 500,
        precision: str = "auto",
        seed: int = 0,
        progress: bool = True,
    ) -> AnnData:
        """Return mean attention between genes, with their plain co-expression beside it.

        An export for comparison. Attention is no evidence that a gene regulates another: in public
        comparisons plain correlation recovers known regulation as well or better.

        Parameters
        ----------
        genes
            Genes to return, or how many of those that most cells express.
        adata, indices, precision
            As in `get_latent_representation`.
        max_cells
            Cells to use, drawn if there are more.
        seed
            Of the draw.
        progress
            Whether to show progress.

        Returns
        -------
        Genes x genes. ``X[i, j]``: how much gene i takes of gene j, in the mean over blocks, heads
        and the cells that express both; NaN without such cells. ``layers["n_cells"]``: their
        number; ``layers["coexpression"]``: Pearson correlation of x~ over all cells.
        ``uns["spearman_with_coexpression"]``: Spearman correlation of the two over pairs of
        different genes that ten cells or more express; it is logged, too.

        Raises
        ------
        RuntimeError
            The model is not trained.
        ValueError
            The model does not know a gene.

        Examples
        --------
        >>> attention = model.get_attention(["CD79A", "MS4A1", "LYZ"])
        >>> attention.to_df(), attention.uns["spearman_with_coexpression"]
        """
        named = None if isinstance(genes, int) else self._positions(list(genes))
        cells, rows = self._query(adata, indices)
        cells = cells.select(_draw(_with_counts(cells, rows), max_cells, seed))
        values = self._values(cells)
        if named is None:
            n_cells = gene_levels(values).n_cells
            named = np.sort(np.argsort(-n_cells, kind="stable")[:genes])
        sums = AttentionSums(self.module, named, len(self.vocabulary))
        batches = token_batches(
            self.module, cells, np.arange(cells.n_cells), self._all_genes(), _ATTENTION_CELLS,
            progress="Attention" if progress else None,
        )  # fmt: skip
        self.module.eval()
        with torch.inference_mode(), inference_precision(precision, self.module.device):
            for batch in batches:
                sums.add(batch.to(self.module.device))
        frame = pd.DataFrame(index=self.vocabulary[named].astype(str))
        found = AnnData(sums.means(), frame, frame.copy())
        found.layers["n_cells"] = sums.n_cells.cpu().numpy()
        found.layers["coexpression"] = correlations(values[:, named].toarray())
        correlation = off_diagonal_spearman(found)
        found.uns["spearman_with_coexpression"] = correlation
        logger.info("Attention and plain co-expression: Spearman correlation %.2f.", correlation)
        return found

    def _labels(
        self, adata: AnnData | MuData | None, labels_key: str | None, needed: bool
    ) -> pd.Categorical | None:
        key = labels_key or self._setup_args.get("labels_key")
        data = self.adata if adata is None else adata
        # The model's own column is a default, which a query need not have.
        if labels_key is None and (key is None or (not needed and key not in data.obs)):
            if needed:
                raise ValueError(
                    "Name the column of obs with types (labels_key=...), or pass a classifier."
                )
            return None
        return column_of(data, str(key), self._setup_args)

    def _all_genes(self) -> Any:
        """Return a tokenizer that keeps all genes: a draw would change where a gene is deleted."""
        return make_tokenizer(self.config, context=None)

    def _values(self, cells: AlignedCounts) -> sp.csr_matrix:
        rows = np.arange(cells.n_cells)
        return normalised_expression(cells, rows, self.config.target_sum, len(self.vocabulary))

    def _embed_all_genes(
        self, cells: AlignedCounts, rows: NDArray[np.int64], batch_size: int | None = None,
        precision: str = "auto",
    ) -> NDArray[np.float32]:  # fmt: skip
        embedding, _ = apply_to_cells(
            self.module.embed_cells, self.config.d_model, self.module, cells, rows,
            self._all_genes(), batch_size, precision=precision,
        )  # fmt: skip
        return embedding

    def _attribute(
        self,
        cells: AlignedCounts,
        of: NDArray[np.int64],
        directions: Directions,
        by_mask: bool,
        n_steps: int,
        max_cells: int,
        batch_size: int,
        precision: str,
        seed: int,
        progress: bool,
    ) -> Attributions:
        """Attribute the score of each cell's type, and take means over cells of a type."""
        network, n_genes = self.module, len(self.vocabulary)
        there = np.unique(of)
        rows = np.concatenate([_draw(np.flatnonzero(of == t), max_cells, seed) for t in there])
        weights = torch.from_numpy(directions.weights[of[rows]]).float().to(network.device)
        offsets = torch.from_numpy(directions.offsets[of[rows]]).float().to(network.device)
        place = np.searchsorted(there, of[rows])
        sums = torch.zeros(len(there) * n_genes, dtype=torch.float64)
        errors, changes = np.zeros(len(rows)), np.zeros(len(rows))
        batches = token_batches(
            network, cells, rows, self._all_genes(), batch_size,
            progress="Attributions" if progress else None,
        )  # fmt: skip
        network.eval()
        with inference_precision(precision, network.device):
            for batch in batches:
                at = batch.cells.long()
                there_at = at.to(network.device)
                found, end, start = attribute_tokens(
                    network, batch.to(network.device), weights[there_at], offsets[there_at],
                    by_mask, n_steps,
                )  # fmt: skip
                change, found = (end - start).cpu(), found.cpu().double()
                where = torch.from_numpy(place)[at][:, None] * n_genes + batch.genes
                sums.index_add_(0, where[batch.valid], found[batch.valid])
                errors[at] = (found.sum(dim=1) - change).abs()
                changes[at] = change.abs()
        n_cells = np.bincount(place)
        error = np.bincount(place, errors) / np.maximum(np.bincount(place, changes), 1e-12)
        types = directions.types[there]
        if (error > _MOST_INCOMPLETE).any():
            logger.warning(
                "Contributions miss %.0f %% of the change they explain (%s): raise n_steps.",
                100 * error.max(), types[int(error.argmax())],
            )  # fmt: skip
        means = sums.view(len(there), n_genes).numpy().T / n_cells
        table = pd.DataFrame(means, self.vocabulary, types)
        return Attributions(
            table, table * np.nan, pd.Series(error, types), pd.Series(n_cells, types)
        )

    def _matched(
        self,
        levels: GeneLevels,
        positions: NDArray[np.int64],
        expressed: NDArray[np.int64],
        n_matched: int,
    ) -> NDArray[np.int64]:
        """Return the genes that each expressed one is compared with."""
        others = np.setdiff1d(np.flatnonzero(levels.n_cells), positions)
        if not len(others):
            raise ValueError(
                "There is no gene to compare with: these cells express no other gene of the model."
            )
        return genes_of_like_expression(levels, expressed, others, n_matched)

    def _shifts(
        self,
        cells: AlignedCounts,
        values: sp.csr_matrix,
        genes: NDArray[np.int64],
        batch_size: int | None,
        precision: str,
        progress: bool,
    ) -> dict[int, NDArray[np.float64]]:
        """Return how far the embedding of each cell that expresses a gene moves without it."""
        before = self._embed_all_genes(cells, np.arange(cells.n_cells), batch_size, precision)
        shifts: dict[int, NDArray[np.float64]] = {}
        if not len(genes):
            return shifts
        by_gene = values.tocsc()
        n_cells = np.diff(by_gene.indptr)[genes]
        # Cells without one gene or another are embedded together: many genes are in few cells.
        ends = np.flatnonzero(np.diff(np.cumsum(n_cells) // _DELETED_TOGETHER, append=-1)) + 1
        with tqdm(total=len(genes), desc="Deletions", unit="gene", disable=not progress) as bar:
            for some in np.split(genes, ends[:-1]):
                of_gene = [by_gene.indices[slice(*by_gene.indptr[g : g + 2])] for g in some]
                sizes, rows = [len(r) for r in of_gene], np.concatenate(of_gene).astype(np.int64)
                without = _without(cells, rows, np.repeat(some, sizes))
                after = self._embed_all_genes(without, np.arange(len(rows)), batch_size, precision)
                moved = np.linalg.norm((after - before[rows]).astype(np.float64), axis=1)
                parts = np.split(moved, np.cumsum(sizes)[:-1])
                shifts.update(zip(some.tolist(), parts, strict=True))
                bar.update(len(some))
        return shifts


def _without(
    cells: AlignedCounts, rows: NDArray[np.int64], genes: NDArray[np.int64]
) -> AlignedCounts:
    """Return cells in each of which one gene has no counts, `genes` being these genes."""
    some = cells.select(rows)
    changed, _ = some.rows.select(np.arange(len(rows)))
    of_row = np.repeat(genes, np.diff(changed.indptr))
    changed.data[some.gene_map[changed.indices] == of_row] = 0
    changed.eliminate_zeros()
    return some.with_counts(changed)


def _with_counts(cells: AlignedCounts, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those cells that have counts in the vocabulary.

    Raises
    ------
    ValueError
        None has.
    """
    known = (cells.gene_map >= 0).astype(np.float32)
    sums = np.concatenate([block @ known for _, block in cells.rows.chunks()])[rows]
    if not (sums > 0).any():
        raise ValueError(
            f"None of the {len(rows)} cells asked about has counts in the model's genes"
            " (and a label)."
        )
    return rows[sums > 0]


def _directions_of(classifier: LabelClassifier) -> Directions:
    if classifier.directions is None:
        raise TypeError(
            "A classifier by nearest neighbours has no directions: fit one with method='logreg'."
        )
    return classifier.directions


def _numbers(labels: NDArray[np.object_], directions: Directions) -> NDArray[np.int64]:
    """Return the number of each cell's type among the classifier's."""
    found = directions.types.get_indexer(pd.Index(labels.astype(str)))
    if (found < 0).any():
        unknown = str(min(labels[found < 0].astype(str)))
        raise ValueError(
            f"The classifier has no type {unknown!r}; it has {', '.join(directions.types)}. "
            "Leave cells of other types out, or give a classifier that knows them."
        )
    return found.astype(np.int64)


def _wilcoxon(values: sp.csr_matrix, types: pd.Index[str], genes: pd.Index[str]) -> pd.DataFrame:
    """Return z scores of each type against all other cells; genes x types that can be tested."""
    sizes = types.value_counts()
    enough = sizes.index[sizes >= 2].sort_values()
    if not len(enough) or len(sizes) < 2:
        return pd.DataFrame(index=genes)
    obs = pd.DataFrame({"type": pd.Categorical(types)}, np.arange(len(types)).astype(str))
    # A gene without variance has no z score.
    varies = gene_levels(values).sd > 0
    cells = AnnData(values[:, varies], obs, pd.DataFrame(index=genes[varies].astype(str)))
    cells.uns["log1p"] = {"base": None}
    with kept_threads():
        sc.tl.rank_genes_groups(
            cells, "type", groups=list(enough), method="wilcoxon", tie_correct=True
        )
    found = {
        name: sc.get.rank_genes_groups_df(cells, name).set_index("names")["scores"]
        for name in enough
    }
    return pd.DataFrame(found).reindex(genes)


def _deleted(
    gene: int,
    matched: NDArray[np.int64] | None,
    levels: GeneLevels,
    shifts: dict[int, NDArray[np.float64]],
) -> dict[str, float]:
    """Return the row of one gene in the table of `delete_genes`."""
    row = {"n_cells": int(levels.n_cells[gene]), "expression": np.nan, "shift": np.nan,
           "matched_expression": np.nan, "matched_shift": np.nan, "sensitivity": np.nan,
           "low": np.nan, "high": np.nan, "percentile": np.nan}  # fmt: skip
    if matched is None:
        return row
    of_cells = shifts[int(gene)]
    of_matched = np.array([shifts[int(other)].mean() for other in matched])
    shift, expected = of_cells.mean(), of_matched.mean()
    below = (of_matched < shift).sum() + (of_matched == shift).sum() / 2
    if min(len(of_cells), len(of_matched)) > 1:
        interval = ttest_ind(of_cells, of_matched, equal_var=False).confidence_interval(0.95)
        row |= {"low": interval.low, "high": interval.high}
    return row | {
        "expression": levels.detected_mean[gene],
        "shift": shift,
        "matched_expression": levels.detected_mean[matched].mean(),
        "matched_shift": expected,
        "sensitivity": shift - expected,
        "percentile": 100 * below / len(of_matched),
    }


def _draw(rows: NDArray[np.int64], n: int, seed: int) -> NDArray[np.int64]:
    return rows[draw_cells(len(rows), n, seed)]
