from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from scenc.data import OrderedRequests, TokenDataset
from scenc.genes import match
from scenc.model._base import ModelBase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    from scenc.data import TokenBatch, Tokenizer
    from scenc.model._cells import Cells

_BATCH_SIZE = 128
# Named genes per pass of predict_expression: bounds the attention's memory.
_GENES_PER_PASS = 256


class InferenceMixin(ModelBase):
    """What a trained model says of cells and genes."""

    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
        key_added: str | None = "X_scenc",
        *,
        max_genes: int | Literal["context"] | None = "context",
        draw: Literal["random", "top"] = "random",
    ) -> NDArray[np.float32]:
        """Embed cells: the mean of a cell's tokens, as `ModelConfig.pooling` says.

        An embedding depends on the model's seed and the cell's own counts only, not on the cells
        beside it, the batch size, the order of cells or genes, or the run. Genes are matched by
        name; those the training data did not have are left out.

        Parameters
        ----------
        adata
            Cells to embed; ``None``: those the model was made with.
        indices
            Rows to embed, or a boolean mask; ``None``: all.
        batch_size
            Cells per batch; changes speed and memory only.
        key_added
            Where in ``adata.obsm`` the embedding is written, if all cells are embedded and `adata`
            is not a view; ``None``: nowhere. How the genes matched goes to
            ``adata.uns[f"{key_added}_genes"]``.
        max_genes
            Genes a cell keeps: as many as in training (``"context"``), a number, or all
            (``None``).
        draw
            Which ones a cell with more keeps: drawn at random, or those with the highest counts.

        Returns
        -------
        Row i is the i-th cell asked for, shape ``(n_cells, d_model)``. Cells without counts get
        zeros, with a warning.

        Raises
        ------
        RuntimeError
            The model is not trained.
        ValueError
            The counts are unusable, or too few genes are known to the model.
        IndexError
            `indices` are out of range.

        Examples
        --------
        >>> model.get_latent_representation()
        >>> sc.pp.neighbors(adata, use_rep="X_scenc")
        """
        cells, rows = self._query(adata, indices)
        context = self.config.context if max_genes == "context" else max_genes
        tokenizer = self._tokenizer(context=context, draw=draw)
        embedding = np.zeros((len(rows), self.config.d_model), np.float32)
        empty = self._run(cells, rows, tokenizer, batch_size, self.module.embed_cells, embedding)
        if empty:
            first = cells.names[rows[empty[0]]]
            warnings.warn(
                f"{len(empty)} cells have no counts in the model's genes and are embedded as zeros "
                f"(first: {first!r}).",
                UserWarning,
                stacklevel=2,
            )
        if key_added is not None and indices is None:
            target = self.adata if adata is None else adata
            if getattr(target, "is_view", False):
                warnings.warn(
                    f"adata is a view: the embedding is returned but not written to "
                    f"obsm[{key_added!r}]. Use adata.copy() to have it written.",
                    UserWarning,
                    stacklevel=2,
                )
            else:
                target.obsm[key_added] = embedding
                target.uns[f"{key_added}_genes"] = cells.match.to_uns()
        return embedding

    def get_reconstruction_error(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
        *,
        mask_fraction: float = 0.5,
        seed: int = 0,
    ) -> NDArray[np.float32]:
        """Return each cell's mean squared error over masked tokens (eq. 10).

        Parameters
        ----------
        adata, indices, batch_size
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
            The model is not trained.

        Examples
        --------
        >>> model.get_reconstruction_error().mean()
        """
        if not 0 < mask_fraction <= 1:
            raise ValueError(f"mask_fraction must lie in (0, 1], got {mask_fraction}.")
        cells, rows = self._query(adata, indices)
        tokenizer = self._tokenizer(mask_fraction=mask_fraction)
        out = np.zeros((len(rows), 1), np.float32)

        def mean_error(batch: TokenBatch) -> torch.Tensor:
            errors, n_masked = self.module.squared_errors(batch)
            return (errors / n_masked)[:, None]

        self._run(cells, rows, tokenizer, batch_size, mean_error, out, seed)
        return out[:, 0]

    def predict_expression(
        self,
        adata: AnnData | MuData | None = None,
        genes: Sequence[str] | str = (),
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Predict expression of named genes from each cell's other genes.

        The named genes are hidden from every cell, whether it expresses them or not, and each is
        predicted as in training. The model learns from expressed genes only, so the prediction is
        the value to expect *if the gene is detected*.

        Parameters
        ----------
        adata, indices, batch_size
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
        names = [genes] if isinstance(genes, str) else list(genes)
        if not names:
            raise ValueError("Name at least one gene (genes=[...]).")
        found = match(names, self.vocabulary, duplicates="all")
        if found.unmatched:
            raise ValueError(
                f"{len(found.unmatched)} of {len(names)} genes are not in the model's vocabulary: "
                f"{', '.join(found.unmatched[:5])}."
            )
        cells, rows = self._query(adata, indices)
        hidden = torch.from_numpy(found.positions.astype(np.int64)).to(self.module.device)
        out = np.zeros((len(rows), len(names)), np.float32)

        def predict(batch: TokenBatch) -> torch.Tensor:
            parts = torch.split(hidden, _GENES_PER_PASS)
            return torch.cat([self.module.predict(batch, part, hidden) for part in parts], dim=1)

        self._run(cells, rows, self._tokenizer(), batch_size, predict, out)
        return pd.DataFrame(out, index=cells.names[rows], columns=pd.Index(names))

    def get_gene_embeddings(self) -> pd.DataFrame:
        """Return the gene encoder's vector of every gene of the vocabulary.

        Returns
        -------
        Genes x d_model.

        Raises
        ------
        RuntimeError
            The model is not trained.

        Examples
        --------
        >>> model.get_gene_embeddings().loc["CD3D"]
        """
        self._require_trained()
        self.module.eval()
        with torch.inference_mode():
            table = self.module.gene_encoder.table().float().cpu().numpy()
        return pd.DataFrame(table.copy(), index=self.vocabulary)

    def _query(
        self, adata: AnnData | MuData | None, indices: Sequence[int] | NDArray[Any] | None
    ) -> tuple[Cells, NDArray[np.int64]]:
        self._require_trained()
        cells: Cells = self._training_cells() if adata is None else self._query_cells(adata)
        return cells, _resolve_indices(indices, cells.n_cells)

    def _run(
        self,
        cells: Cells,
        rows: NDArray[np.int64],
        tokenizer: Tokenizer,
        batch_size: int | None,
        function: Callable[[TokenBatch], torch.Tensor],
        out: NDArray[np.float32],
        seed: int | None = None,
    ) -> list[int]:
        """Fill `out` with what a function says of each cell; return the positions of empty ones."""
        requests = OrderedRequests(
            # Positions in `rows`, so that a row asked for twice is answered twice.
            np.arange(len(rows)),
            batch_size or _BATCH_SIZE,
            seed=self.config.seed if seed is None else seed,
            lengths=cells.n_genes[rows],
        )
        dataset = TokenDataset(cells.rows, cells.gene_map, tokenizer, rows, cells.n_genes)
        empty: list[int] = []
        self.module.eval()
        device = self.module.device
        with torch.inference_mode():
            for batch in dataset.loader(requests, pin_memory=device.type == "cuda"):
                positions = batch.cells.numpy()
                values = function(batch.to(device, non_blocking=True)).float().cpu().numpy()
                out[positions] = values
                empty += positions[batch.lengths.cpu().numpy() == 0].tolist()
        return sorted(empty)


def _resolve_indices(indices: Sequence[int] | ArrayLike | None, n_cells: int) -> NDArray[np.int64]:
    if indices is None:
        return np.arange(n_cells)
    rows = np.asarray(indices)
    if rows.dtype == bool:
        if rows.shape != (n_cells,):
            raise IndexError(f"A boolean mask needs {n_cells} entries, got shape {rows.shape}.")
        return np.flatnonzero(rows)
    if rows.ndim != 1 or (len(rows) and not np.issubdtype(rows.dtype, np.integer)):
        raise IndexError("indices must be a list of row numbers or a boolean mask.")
    rows = rows.astype(np.int64)
    if len(rows) and (rows.min() < -n_cells or rows.max() >= n_cells):
        raise IndexError(f"indices reach from {rows.min()} to {rows.max()}; cells: {n_cells}.")
    return np.where(rows < 0, rows + n_cells, rows)
