"""What a model says of expression: normalised, of hidden genes, how likely the counts are."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.data.fields import CategoricalObsField
from scvi.model._utils import scrna_raw_counts_properties
from scvi.model.base import BaseModelClass
from scvi.model.base._de_core import _de_core  # what scvi-tools' own models build theirs on

from scenc._printing import list_some
from scenc.data import UNKNOWN
from scenc.genes import match
from scenc.io import group_names, read_groups
from scenc.model._components import line_up
from scenc.model._covariates import BATCH, query_covariates, registered_covariates
from scenc.model._fields import CountsField
from scenc.model._inference import (
    apply_to_cells,
    evidence_bounds,
    expected_shares,
    mean_squared_errors,
    predict_genes,
)
from scenc.model._initial import make_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from scenc.model._aligned_counts import AlignedCounts
    from scenc.nn import CellTransformer, ModelConfig
    from scenc.train import TrainConfig

# Column of obs with each cell's batch by the model's names, in data made for scvi-tools.
_OWN_BATCH = "_scenc_batch"
# And with the groups that are compared.
_OWN_GROUP = "_scenc_group"
# Least share of a cell's counts that genes which are not hidden are taken to have.
_LEAST_REST = 1e-3

type Batches = str | int | Sequence[str | int | None] | None


class ExpressionMixin(BaseModelClass):
    """The methods of a model that are about expression."""

    config: ModelConfig
    vocabulary: pd.Index[str]
    covariates: dict[str, list[str]]
    module: CellTransformer
    train_config: TrainConfig | None

    def get_normalized_expression(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        transform_batch: Batches = None,
        gene_list: Sequence[str] | str | None = None,
        library_size: float | Literal["observed"] = 1,
        n_samples: int | None = None,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool = False,
        *,
        precision: str = "auto",
    ) -> pd.DataFrame | NDArray[np.float32]:
        """Return the expression of all genes that the decoder expects of each cell.

        Noise of counting is taken out, and with `transform_batch` what batches differ by. Only
        with the generative objective.

        Parameters
        ----------
        adata, indices, batch_size, precision
            As in `get_latent_representation`.
        transform_batch
            Batch that cells are decoded as, by name or number; the mean over several if a list is
            given. ``None``: each cell's own, or for a batch that the model does not know the mean
            over those that it knows.
        gene_list
            Genes to return; ``None``: all of the vocabulary.
        library_size
            What each cell's expression adds up to over the vocabulary: a number, or
            ``"observed"``, the cell's own sum of counts.
        n_samples
            Number of draws of z from its distribution, by PyTorch's random state; ``None``: z at
            its mean, the same at each call.
        return_mean
            Whether to return the mean over draws.
        return_numpy
            Whether to return an array instead of a DataFrame.

        Returns
        -------
        Cells x genes; an array of shape ``(n_samples, n_cells, n_genes)`` of several draws without
        `return_mean`. Cells without counts of the vocabulary get what the decoder expects of the
        origin.

        Raises
        ------
        RuntimeError
            The model is not trained, or not with the generative objective.
        ValueError
            A gene or a batch is not known to the model.

        Examples
        --------
        >>> model.get_normalized_expression(gene_list=["CD79A", "CD3D"], library_size=1e4)
        """
        self._require_decoder()
        cells, rows = self._query(adata, indices)
        wanted = None if gene_list is None else _listed(gene_list)
        genes = None if wanted is None else self._positions(wanted)
        names = self.vocabulary if wanted is None else pd.Index(wanted)
        n_genes = len(names)
        n_kept = 1 if n_samples is None or return_mean else n_samples
        values, _ = self._shares(
            cells,
            rows,
            self._codes(adata)[rows],
            genes,
            n_kept,
            batch_size=batch_size,
            precision=precision,
            batches=self._batch_codes(transform_batch),
            n_samples=n_samples,
            mean=return_mean,
        )
        if library_size == "observed":
            values *= _known_sums(cells, rows)[:, None]
        else:
            values *= library_size
        if n_kept > 1:
            return values.reshape(len(rows), n_kept, n_genes).swapaxes(0, 1)
        if return_numpy:
            return values
        return pd.DataFrame(values, index=cells.names[rows], columns=names)

    def get_elbo(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
        *,
        precision: str = "auto",
    ) -> NDArray[np.float32]:
        """Return how well each cell's counts are explained: its evidence lower bound.

        The log-likelihood of its counts over the vocabulary, given z at its mean, the library size
        and the batch, minus the KL divergence of z. The higher, the better; it grows with a cell's
        counts, so compare cells of like depth. Cells of an unknown batch are decoded as of the
        first.

        Parameters
        ----------
        adata, indices, batch_size, precision
            As in `get_latent_representation`.

        Returns
        -------
        In nats, shape ``(n_cells,)``. (scvi-tools' method of this name returns the mean, negated.)

        Raises
        ------
        RuntimeError
            The model is not trained, or not with the generative objective.

        Examples
        --------
        >>> adata.obs["elbo"] = model.get_elbo()
        """
        self._require_decoder()
        cells, rows = self._query(adata, indices)
        codes = self._codes(adata)[rows].clip(min=0)
        bound = partial(evidence_bounds, self.module, cells, rows, codes)
        tokenizer = make_tokenizer(self.config)
        values, _ = apply_to_cells(
            bound, 1, self.module, cells, rows, tokenizer, batch_size, precision=precision
        )
        return values[:, 0]

    def differential_expression(
        self,
        adata: AnnData | MuData | None = None,
        groupby: str | None = None,
        group1: Sequence[str] | str | None = None,
        group2: str | None = None,
        idx1: Sequence[int] | Sequence[bool] | None = None,
        idx2: Sequence[int] | Sequence[bool] | None = None,
        mode: Literal["vanilla", "change"] = "change",
        delta: float = 0.25,
        all_stats: bool = True,
        batch_correction: bool = False,
        batchid1: Sequence[str] | None = None,
        batchid2: Sequence[str] | None = None,
        fdr_target: float = 0.05,
        silent: bool = True,
        **kwargs: Any,
    ) -> pd.DataFrame:
        """Compare the decoded expression of groups of cells, by scvi-tools' machinery.

        Parameters
        ----------
        adata
            As in `get_latent_representation`.
        groupby, group1, group2
            Column of obs, and the groups to compare; without `group2` with all other cells, without
            `group1` each group.
        idx1, idx2
            Rows to compare instead.
        mode, delta
            ``"change"``: the probability that the log2 fold change exceeds `delta`;
            ``"vanilla"``: Bayes factors.
        all_stats
            Whether to add statistics of the counts.
        batch_correction, batchid1, batchid2
            Whether to decode all cells as of each batch, or of those named.
        fdr_target
            Rate of false discoveries at which a gene is called differential.
        silent
            Whether to show no progress.
        **kwargs
            Passed to `scvi.model.base.DifferentialComputation.get_bayes_factors`.

        Returns
        -------
        One row per gene of the vocabulary and comparison, as from `scvi.model.SCVI`.

        Raises
        ------
        RuntimeError
            The model is not trained, or not with the generative objective.
        KeyError
            `groupby` is no column of obs.
        ValueError
            A group has no cells, or neither `groupby` nor `idx1` is given.

        References
        ----------
        Boyeau et al. (2019), Deep generative models for detecting differential expression in single
        cells.

        Examples
        --------
        >>> model.differential_expression(groupby="cell_type", group1="B cell")
        """
        self._require_decoder()
        data = self.adata if adata is None else adata
        # Read once: cells are drawn from them again and again.
        cells, _ = self._query(data, None)
        codes = self._codes(data)
        decoded = self._decoded_genes(data, cells, codes)
        if idx1 is None:
            groupby, group1, group2 = _name_groups(decoded.adata.obs, groupby, group1, group2)
        table: pd.DataFrame = _de_core(
            adata_manager=decoded,
            model_fn=partial(self._drawn_shares, cells, codes),
            representation_fn=None,
            groupby=groupby,
            group1=group1,
            group2=group2,
            idx1=idx1,
            idx2=idx2,
            all_stats=all_stats,
            all_stats_fn=scrna_raw_counts_properties,
            col_names=self.vocabulary,
            mode=mode,
            batchid1=batchid1,
            batchid2=batchid2,
            delta=delta,
            batch_correction=batch_correction,
            fdr=fdr_target,
            silent=silent,
            **kwargs,
        )
        return table

    def _decoded_genes(
        self, data: AnnData | MuData, cells: AlignedCounts, codes: NDArray[np.int64]
    ) -> AnnDataManager:
        """Register the counts of the genes that are decoded: scvi-tools wants them and no others.

        Cells of a batch that the model does not know count as of its first.
        """
        matrix, positions = cells.rows.select(np.arange(cells.n_cells))
        counts = line_up(matrix[positions], cells.gene_map, len(self.vocabulary))
        known = pd.Index(self.covariates[BATCH])
        batches = pd.Categorical(known[codes[:, 0].clip(min=0)], known)
        obs = data.obs.assign(**{_OWN_BATCH: batches})
        decoded = AnnData(counts, obs, pd.DataFrame(index=self.vocabulary))
        fields = [CountsField(), CategoricalObsField(REGISTRY_KEYS.BATCH_KEY, _OWN_BATCH)]
        manager = AnnDataManager(fields=fields)
        manager.register_fields(decoded)
        return manager

    def _drawn_shares(
        self,
        cells: AlignedCounts,
        codes: NDArray[np.int64],
        _: AnnData,
        indices: NDArray[np.int64],
        transform_batch: Batches = None,
        n_samples_overall: int = 1,
    ) -> NDArray[np.float32]:
        """Return the decoded shares of so many cells, drawn from those named, with z drawn too."""
        if len(indices) == 0:
            raise ValueError("There is nothing to compare: a group has no cells.")
        drawn = torch.randint(len(indices), (n_samples_overall,)).numpy()
        rows = np.sort(np.asarray(indices)[drawn])
        batches = self._batch_codes(transform_batch)
        values, _empty = self._shares(
            cells, rows, codes[rows], None, 1, batches=batches, n_samples=1
        )
        return values

    def _shares(
        self,
        cells: AlignedCounts,
        rows: NDArray[np.int64],
        codes: NDArray[np.int64],
        genes: NDArray[np.int64] | None,
        n_kept: int = 1,
        *,
        batch_size: int | None = None,
        precision: str = "auto",
        **how: Any,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Decode rows of cells, `codes` being their covariates; see `expected_shares`.

        Returns
        -------
        Shares, shape ``(n_rows, n_kept * n_genes)``, and positions of rows without tokens.
        """
        device = self.module.device
        shares = partial(
            expected_shares,
            self.module,
            codes=torch.from_numpy(codes).to(device),
            genes=None if genes is None else torch.from_numpy(genes).to(device),
            **how,
        )
        n_genes = len(self.vocabulary) if genes is None else len(genes)
        tokenizer = make_tokenizer(self.config)
        return apply_to_cells(
            shares, n_kept * n_genes, self.module, cells, rows, tokenizer, batch_size,
            precision=precision,
        )  # fmt: skip

    def get_reconstruction_error(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
        *,
        mask_fraction: float = 0.5,
        seed: int = 0,
        precision: str = "auto",
    ) -> NDArray[np.float32]:
        """Return each cell's mean squared error over masked tokens (eq. 10).

        Parameters
        ----------
        adata, indices, batch_size, precision
            As in `get_latent_representation`.
        mask_fraction
            Share of a cell's tokens to hide and predict; at least one is.
        seed
            Seed of the masks.

        Returns
        -------
        Errors on the scale of x~ squared, shape ``(n_cells,)``; NaN for cells without counts.

        Raises
        ------
        RuntimeError
            The model is not trained, or not to predict masked genes.

        Examples
        --------
        >>> model.train(masked_weight=1)  # by default masked genes are not predicted
        >>> model.get_reconstruction_error().mean()
        """
        self._require_masked_term()
        if not 0 < mask_fraction <= 1:
            raise ValueError(f"mask_fraction must lie in (0, 1], got {mask_fraction}.")
        cells, rows = self._query(adata, indices)
        tokenizer = make_tokenizer(self.config, mask_fraction)
        mean_errors = partial(mean_squared_errors, self.module)
        errors, _ = apply_to_cells(
            mean_errors, 1, self.module, cells, rows, tokenizer, batch_size, seed, precision
        )
        return errors[:, 0]

    def predict_expression(
        self,
        adata: AnnData | MuData | None = None,
        genes: Sequence[str] | str = (),
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
        *,
        precision: str = "auto",
    ) -> pd.DataFrame:
        """Predict expression of named genes from each cell's other genes.

        The named genes are hidden from every cell, whether it expresses them or not. With the
        generative objective the prediction is the value to expect of the cell, decoded from its
        other genes (as of its batch, or the mean over batches if the model does not know it). The
        other objectives learn from expressed genes only: theirs is the value to expect *if the gene
        is detected*.

        Parameters
        ----------
        adata, indices, batch_size, precision
            As in `get_latent_representation`.
        genes
            Genes of the model's vocabulary, by any name `scenc.genes.match` knows.

        Returns
        -------
        Normalised expression x~ = log(1 + count / depth * target_sum) (eq. 2), cells x genes.

        Raises
        ------
        ValueError
            No gene is named, or the model does not know one.

        Examples
        --------
        >>> model.predict_expression(genes=["CD3D", "MS4A1"])
        """
        names = _listed(genes)
        if not names:
            raise ValueError("Name at least one gene (genes=[...]).")
        positions = self._positions(names)
        cells, rows = self._query(adata, indices)
        how: dict[str, Any] = {"batch_size": batch_size, "precision": precision}
        if self.config.objective == "generative":
            codes = self._codes(adata)[rows]
            predicted = self._decode_hidden(cells, rows, codes, positions, **how)
        else:
            hidden = torch.from_numpy(positions).to(self.module.device)
            predict = partial(predict_genes, self.module, hidden)
            tokenizer = make_tokenizer(self.config)
            predicted, _ = apply_to_cells(
                predict, len(names), self.module, cells, rows, tokenizer, **how
            )
        return pd.DataFrame(predicted, index=cells.names[rows], columns=pd.Index(names))

    def _decode_hidden(
        self,
        cells: AlignedCounts,
        rows: NDArray[np.int64],
        codes: NDArray[np.int64],
        hidden: NDArray[np.int64],
        **how: Any,
    ) -> NDArray[np.float32]:
        """Decode x~ of genes from cells that lack them, shape ``(n_rows, n_hidden)``."""
        gene_map = np.where(np.isin(cells.gene_map, hidden), UNKNOWN, cells.gene_map)
        seen = replace(cells, gene_map=gene_map)
        share, empty = self._shares(seen, rows, codes, hidden, **how)
        # What is seen of a cell is the rest of its library.
        once = np.unique(hidden, return_index=True)[1]
        rest = np.maximum(1 - share[:, once].sum(axis=1, keepdims=True), _LEAST_REST)
        counts = share / rest * _known_sums(seen, rows)[:, None]
        others = _row_sums(seen, rows, gene_map != UNKNOWN)
        depth = others[:, None] + counts[:, once].sum(axis=1, keepdims=True)
        scaled = np.divide(counts, depth, out=np.zeros_like(counts), where=depth > 0)
        expected = np.log1p(scaled * self.config.target_sum)
        expected[empty] = 0
        return np.asarray(expected, dtype=np.float32)

    def _positions(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Return where in the vocabulary named genes are."""
        known = match(names, self.vocabulary, duplicates="all")
        if known.unmatched:
            near = closest_names(known.unmatched[0], self.vocabulary)
            raise ValueError(
                f"{len(known.unmatched)} of {len(names)} genes are not in the model's vocabulary: "
                f"{', '.join(known.unmatched[:5])}."
                + (f" Nearest to {known.unmatched[0]!r}: {', '.join(near)}." if near else "")
            )
        return known.positions.astype(np.int64)

    def _codes(self, adata: AnnData | MuData | None) -> NDArray[np.int64]:
        """Return the covariates of all cells of some data, -1 where the model does not know one."""
        if adata is None or adata is self._adata:
            return registered_covariates(self._registered()).lined_up(self.covariates)
        return query_covariates(adata, self._setup_args, self.covariates)

    def _batch_codes(self, batches: Batches) -> list[int] | None:
        """Return the numbers of the batches to decode cells as; ``None``: their own."""
        if batches is None:
            return None
        several = [batches] if isinstance(batches, str | int | np.integer) else list(batches)
        if several == [None]:
            return None
        names = self.covariates[BATCH]
        codes = []
        for batch in several:
            if isinstance(batch, str) and batch in names:
                codes.append(names.index(batch))
            elif isinstance(batch, int | np.integer) and 0 <= batch < len(names):
                codes.append(int(batch))
            else:
                raise ValueError(
                    f"transform_batch={batch!r} is no batch that the model was trained on: "
                    f"{list_some(names)}."
                )
        return codes

    def _require_decoder(self) -> None:
        if self.config.objective != "generative":
            raise RuntimeError(
                f"A model with objective={self.config.objective!r} decodes no counts; make it with "
                "objective='generative'."
            )

    @property
    def predicts_masked_genes(self) -> bool:
        """Whether the objective, as it was trained, has a term of masked genes."""
        config = self.train_config
        if self.config.objective != "generative":
            return True
        return config is not None and config.masked_weight > 0

    def _require_masked_term(self) -> None:
        if not self.predicts_masked_genes:
            raise RuntimeError(
                "The model was not trained to predict masked genes: get_elbo() tells how well "
                "counts are explained. (model.train(masked_weight=1) trains both.)"
            )


def closest_names(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Return the names that are spelled most alike, by Levenshtein distance of their capitals.

    Names that differ in more than four of ten letters are not among them.
    """
    found = process.extract(
        name, known, scorer=Levenshtein.normalized_similarity, processor=str.upper,
        limit=n, score_cutoff=0.6,
    )  # fmt: skip
    return [near for near, _, _ in found]


def _listed(genes: Sequence[str] | str) -> list[str]:
    return [genes] if isinstance(genes, str) else list(genes)


def _name_groups(
    obs: pd.DataFrame,
    groupby: str | None,
    group1: Sequence[str] | str | None,
    group2: str | None,
) -> tuple[str, list[str], str | None]:
    """Write each cell's group by name, and return the column of them and the groups to compare.

    Categories without cells, as they are left where cells are dropped, are no groups.
    """
    if groupby is None:
        raise ValueError("Name the column of obs to compare by (groupby=...), or rows (idx1=...).")
    groups = read_groups(obs, groupby, "adata.obs").remove_unused_categories()
    obs[_OWN_GROUP] = groups
    there = groups.categories.tolist()
    if group1 is None:
        wanted = there
    else:
        several = not isinstance(group1, str) and np.iterable(group1)
        wanted = group_names(group1 if several else [group1]).tolist()
    other = None if group2 is None else str(group_names([group2])[0])
    for name in wanted if other is None else [*wanted, other]:
        if name not in there:
            raise ValueError(
                f"No cell has the value {name!r} in obs[{groupby!r}] (there: {list_some(there)})."
            )
    return _OWN_GROUP, wanted, other


def _known_sums(cells: AlignedCounts, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the sum of the counts of each cell over the vocabulary, shape ``(n_rows,)``."""
    return _row_sums(cells, rows, cells.gene_map >= 0)


def _row_sums(
    cells: AlignedCounts, rows: NDArray[np.int64], columns: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the sum of the counts of each cell over some columns, shape ``(n_rows,)``."""
    matrix, positions = cells.rows.select(rows)
    sums: NDArray[np.float32] = (sp.csr_matrix(matrix) @ columns.astype(np.float32))[positions]
    return sums
