"""Embeddings of cells, in memory or file by file, and the gene encoder's vectors."""

from __future__ import annotations

import warnings
from copy import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from scvi.model.base import BaseModelClass

from scenc._arguments import choose
from scenc.data import CellFiles
from scenc.model._aligned_counts import check_depth
from scenc.model._embed_files import embed_files
from scenc.model._inference import PRECISIONS, apply_to_cells
from scenc.model._initial import make_tokenizer
from scenc.model._provenance import describe_embedding, describe_model, record_embedding

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from scenc.nn import CellTransformer, ModelConfig

_BATCH_SIZE = 128


class EmbeddingMixin(BaseModelClass):
    """The methods of a model that embed cells and genes."""

    config: ModelConfig
    vocabulary: pd.Index[str]
    counted: pd.Index[str]
    module: CellTransformer
    _count_shares: NDArray[np.float64] | None

    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
        key_added: str | None = "X_scenc",
        *,
        max_genes: int | Literal["context"] | None = "context",
        draw: Literal["random", "top"] = "random",
        read_out: Literal["expression"] | int | None = None,
        precision: str = "auto",
    ) -> NDArray[np.float32]:
        """Embed cells: the mean of a cell's tokens, as `ModelConfig.pooling` says.

        An embedding depends on the model's seed and the cell's own counts only, not on the cells
        beside it, the batch size, the order of cells or genes, or the run (up to rounding, whose
        order a GPU may change). Genes are matched by
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
            is not a view; ``None``: nowhere. Which model made it, how, and with which share of its
            genes goes to ``adata.uns["scenc"]["embeddings"][key_added]``, how the genes matched to
            ``adata.uns[f"{key_added}_genes"]``.
        max_genes
            Genes a cell keeps: as many as in training (``"context"``), a number, or all
            (``None``).
        draw
            Which ones a cell with more keeps: drawn at random, or those with the highest counts.
        read_out
            Another mean of the same network's tokens than the paper's, for models with
            ``pooling="mean"``, as those of the masked objective have: ``"expression"`` weights the
            last layer's tokens by x~, a number takes the tokens after so many blocks (0: before the
            first). ``None``: as the model is set.
        precision
            What matrix products are computed in: ``"32-true"``, ``"tf32"`` (FP32 with factors of
            11 significant bits, on CUDA), ``"bf16-mixed"`` or ``"16-mixed"``. ``"auto"`` is TF32 on
            CUDA and full FP32 elsewhere.

        Returns
        -------
        Row i is the i-th cell asked for, shape ``(n_cells, d_model)``. Cells without counts get
        zeros, with a warning.

        Raises
        ------
        RuntimeError
            The model is not trained.
        ValueError
            The counts are unusable, too few genes are known to the model, or it has no such
            `read_out`.
        IndexError
            `indices` are out of range.

        Examples
        --------
        >>> model.get_latent_representation()
        >>> sc.pp.neighbors(adata, use_rep="X_scenc")
        """
        _require_read_out(read_out, self.config)
        cells, rows = self._query(adata, indices)
        context = self.config.context if max_genes == "context" else max_genes
        tokenizer = make_tokenizer(self.config, context=context, draw=draw)
        embed = partial(self.module.embed_cells, read_out=read_out)
        embedding, empty = apply_to_cells(
            embed,
            self.config.d_model,
            self.module,
            cells,
            rows,
            tokenizer,
            batch_size,
            precision=precision,
        )
        if len(empty):
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
                how = {
                    "max_genes": max_genes or "all",
                    "draw": draw,
                    "read_out": read_out,
                    "precision": precision,
                }
                model = describe_model(self._state(), self.module)
                record_embedding(target.uns, key_added, describe_embedding(model, cells.match, how))
        return embedding

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

    def embed_files(
        self,
        files: CellFiles | Iterable[str | os.PathLike[str]],
        out: str | os.PathLike[str],
        *,
        format: Literal["h5ad", "zarr"] = "h5ad",  # what users call it
        key_added: str = "X_scenc",
        batch_size: int | None = None,
        layer: str | Mapping[str, str] | None = None,
        gene_ids: str | None = None,
        overwrite: bool = False,
        progress: bool = True,
        read_out: Literal["expression"] | int | None = None,
        precision: str = "auto",
    ) -> list[Path]:
        """Embed the cells of files, each into a file of its own, without holding any in memory.

        Every written file has the cells of its source, in their order, with all of obs, the
        embedding in obsm, and in uns what `get_latent_representation` writes there; it has no
        counts. It appears whole or not at all.

        Parameters
        ----------
        files
            Paths or addresses of .h5ad files and zarr stores, or `scenc.data.CellFiles` of them.
        out
            Folder for the written files, which are called as their sources are; those of one name
            get the names of the folders by which they differ in front (``s1_sample.h5ad``).
        format
            What is written: ``"h5ad"`` or ``"zarr"``.
        key_added
            Where in obsm the embedding goes.
        batch_size
            Cells per batch; changes speed and memory only.
        layer, gene_ids
            As in `scenc.data.CellFiles`; not where these are given, which have their own.
        overwrite
            Whether files that are there may be replaced; otherwise it is an error.
        progress
            Whether to show progress.
        read_out, precision
            As in `get_latent_representation`.

        Returns
        -------
        The written files, in the order of `files`.

        Raises
        ------
        RuntimeError
            The model is not trained.
        ValueError
            The model has no such `read_out`.
        CellFilesError
            Some files cannot be used; the message names everything that is wrong with any of them.
        FileExistsError
            A file that is to be written exists.
        TypeError
            `files` are no files: an AnnData, a `scenc.data.CellStore`; or `layer` or `gene_ids` is
            given beside `scenc.data.CellFiles`.

        Examples
        --------
        >>> model.embed_files(["lung.h5ad", "gut.zarr"], "embedded")
        """
        self._require_trained()
        choose(format, ("h5ad", "zarr"), "format")
        choose(precision, PRECISIONS, "precision")
        _require_read_out(read_out, self.config)
        if isinstance(files, CellFiles):
            if layer is not None or gene_ids is not None:
                raise TypeError("layer and gene_ids belong to the CellFiles that are given.")
            cells = copy(files)
        else:
            cells = CellFiles(
                files,
                layer=layer,
                gene_ids=gene_ids,
                feature_types=self._setup_args.get("feature_types"),
                genes=self.vocabulary.tolist(),
                validation_size=0.0,
                progress=progress,
            )
        cells.use_vocabulary(self.vocabulary, self.counted)
        for path, matched, gene_map in zip(
            cells.paths, cells.matches, cells.gene_maps, strict=True
        ):
            check_depth(matched, gene_map, self.counted, self._count_shares, path)
        cells.tokenizer = make_tokenizer(self.config)
        cells.batch_size = batch_size or _BATCH_SIZE
        cells.seed = self.config.seed
        cells.pin_memory = self.module.device.type == "cuda"
        return embed_files(
            self.module,
            cells,
            Path(out),
            model=describe_model(self._state(), self.module),
            format=format,
            key_added=key_added,
            overwrite=overwrite,
            progress=progress,
            read_out=read_out,
            precision=precision,
        )


def _require_read_out(read_out: str | int | None, config: ModelConfig) -> None:
    """Raise a ValueError for another way to read cells out that a model does not have."""
    if read_out is None:
        return
    if config.pooling != "mean":
        raise ValueError(
            "read_out is for models with pooling='mean', as those of objective='masked' have. This "
            "one's embedding is a mean weighted by expression already: leave read_out out."
        )
    is_number = isinstance(read_out, int | np.integer) and not isinstance(read_out, bool)
    if read_out != "expression" and not (is_number and read_out in range(config.n_layers + 1)):
        raise ValueError(
            f"read_out must be 'expression' or a number of blocks from 0 to {config.n_layers}, got "
            f"{read_out!r}."
        )
