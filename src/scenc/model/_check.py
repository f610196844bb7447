"""Principal components beside the embedding: whether training was worth it."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scvi.model.base import BaseModelClass

from scenc._distributed import is_first
from scenc.data import thin
from scenc.io import read_groups
from scenc.model._components import leading_components, normalise, sample
from scenc.model._inference import apply_to_cells
from scenc.model._initial import make_tokenizer
from scenc.model._neighborhoods import sample_batches
from scenc.tasks import Halves, check_embedding

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from scenc.data import CellModule
    from scenc.model._aligned_counts import AlignedCounts
    from scenc.model._training_data import LoadedCells
    from scenc.nn import CellTransformer, ModelConfig
    from scenc.tasks import EmbeddingCheck

logger = logging.getLogger(__name__)

# As many as scanpy's `pp.pca` finds by default.
_N_COMPONENTS = 50
_N_CELLS = 2000
# Fewer cells tell nothing.
_FEWEST_CELLS = 50
# A training that took fewer seconds is not made longer by a check that nobody asked for.
_LEAST_SECONDS = 120.0


class CheckMixin(BaseModelClass):
    """The method of a model that compares its embedding with principal components."""

    config: ModelConfig
    vocabulary: pd.Index[str]
    module: CellTransformer

    def check(
        self,
        adata: AnnData | MuData | None = None,
        labels_key: str | None = None,
        batch_key: str | None = None,
        *,
        n_cells: int = _N_CELLS,
        seed: int = 0,
    ) -> EmbeddingCheck:
        """Compare the embedding with principal components of the same data.

        Looked at is a sample of the cells, of each batch in proportion, and at least 100 of each.
        Components are the first 50 of x~, uncorrected, over the genes of the vocabulary: what
        `scanpy.pp.pca` gives of the same genes. With labels it is compared how well a cell's
        neighbours tell its label. Without, neighbours are found from half of each cell's counts,
        and it is compared how well they tell the other half; this says less, since it does not ask
        what the differences between cells are. Of several batches it is compared how well
        neighbours tell the batch, which they had better not.

        Parameters
        ----------
        adata
            The cells; ``None``: those the model was made with.
        labels_key, batch_key
            Columns of obs with labels and batches; ``None``: those of the setup, where the data
            have them.
        n_cells
            Number of cells to look at.
        seed
            Seed of the sample.

        Returns
        -------
        The report, which prints well.

        Warns
        -----
        UserWarning
            The embedding is worse than the components at something, or better at nothing.

        Raises
        ------
        RuntimeError
            The model is not trained.
        ValueError
            Fewer than 50 cells have counts, or the model has no AnnData of its own.
        KeyError
            There is no such column.

        See Also
        --------
        scenc.metrics.integration : All scores of scib, of any embedding.

        Examples
        --------
        >>> report = model.check(labels_key="cell_type")
        >>> print(report)
        >>> report.scores
        """
        cells, _ = self._query(adata, None)
        data = self.adata if adata is None else adata
        batch = self._groups(data, "batch_key", batch_key)
        labels = self._groups(data, "labels_key", labels_key)
        n_filled = int((cells.n_genes > 0).sum())
        if min(n_filled, n_cells) < _FEWEST_CELLS:
            raise ValueError(
                f"A check needs at least {_FEWEST_CELLS} cells with counts, got {n_filled} of "
                f"which {n_cells} are wanted."
            )
        report = self._compare(cells, batch, labels, n_cells, seed)
        if not report.is_better and (report.separation or report.mixing):
            warnings.warn(
                f"{report.conclude()} Use the components, or train longer or on more cells.",
                UserWarning,
                stacklevel=2,
            )
        return report

    def _check_training(
        self,
        wanted: bool | None,
        seconds: float,
        loaded: LoadedCells | None,
        files: CellModule | None,
    ) -> None:
        """Write into the log how the embedding compares, if that is wanted and costs little."""
        if wanted is False or not is_first() or (wanted is None and seconds < _LEAST_SECONDS):
            return
        if loaded is None:
            logger.info(
                "The embedding is not compared with principal components, since cells are read "
                "from files: model.check(adata) does so for any cells."
            )
            return
        cells, codes = loaded.cells, loaded.covariates[:, 0]
        if int((cells.n_genes > 0).sum()) < _FEWEST_CELLS:
            return
        if files is None:
            labels = self._groups(self.adata, "labels_key", None)
        else:
            labels = None if files.labels_key is None else files.column(files.labels_key)
        batch = pd.Categorical(codes.astype(str))
        report = self._compare(cells, batch, labels, _N_CELLS, self.config.seed)
        level = logging.INFO if report.is_better else logging.WARNING
        numbers = ", ".join(
            f"{name} {row['embedding']:.3f} against {row['components']:.3f}"
            for name, row in report.scores.iterrows()
            if row["verdict"]
        )
        logger.log(level, "%s (%s; model.check() tells more.)", report.conclude(), numbers)

    def _compare(
        self,
        cells: AlignedCounts,
        batch: pd.Categorical | None,
        labels: pd.Categorical | None,
        n_cells: int,
        seed: int,
    ) -> EmbeddingCheck:
        """Compare on a sample of the cells that have counts."""
        filled = np.flatnonzero(cells.n_genes > 0)
        codes = np.zeros(cells.n_cells, np.int64) if batch is None else batch.codes.astype(np.int64)
        rows = sample_batches(filled, codes, n_cells, seed)
        few = cells.select(rows)
        target_sum = self.config.target_sum
        values = sample(cells, len(self.vocabulary), target_sum, self.config.seed)
        components = leading_components(values, _N_COMPONENTS, self.config.seed)
        labelled = labels is not None and bool((labels.codes[rows] >= 0).any())
        halves = None
        if not labelled:
            seen, other = _halves(few, seed)
            held_out = normalise(
                other.rows.select(np.arange(len(rows)))[0],
                few.gene_map,
                len(self.vocabulary),
                target_sum,
            )
            halves = Halves(self._embed(seen), components.project(seen, target_sum), held_out)
        return check_embedding(
            self._embed(few),
            components.project(few, target_sum),
            None if batch is None else batch[rows],
            labels[rows] if labels is not None and labelled else None,
            halves,
            seed,
        )

    def _embed(self, cells: AlignedCounts) -> NDArray[np.float32]:
        rows = np.arange(cells.n_cells)
        tokenizer = make_tokenizer(self.config)
        embed, width = self.module.embed_cells, self.config.d_model
        embedding, _ = apply_to_cells(embed, width, self.module, cells, rows, tokenizer, None)
        return embedding

    def _groups(self, data: AnnData | MuData, which: str, key: str | None) -> pd.Categorical | None:
        """Return a column of obs: the one named, or that of the setup if the data have it."""
        registered = self._setup_args.get(which)
        modality = (self._setup_args.get("modalities") or {}).get(which)
        obs = data.obs if key is not None or modality is None else data[modality].obs
        if key is None and (registered is None or registered not in obs):
            return None
        return read_groups(obs, key or registered, "adata.obs")


def _halves(cells: AlignedCounts, seed: int) -> tuple[AlignedCounts, AlignedCounts]:
    """Share each cell's counts out to two cells at random."""
    rows = np.arange(cells.n_cells)
    counts = sp.csr_matrix(cells.rows.select(rows)[0], copy=True)
    counts.data = np.rint(counts.data)
    seen = sp.csr_matrix(thin(counts, np.full(len(rows), 0.5), seed, rows))
    halves = seen, sp.csr_matrix(counts - seen)
    for half in halves:
        half.eliminate_zeros()
    return cells.with_counts(halves[0]), cells.with_counts(halves[1])
