"""annbatch, which is optional, and how it is asked for just the cells that are wanted."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from scenc.data._gene_rows import NO_ROWS, GeneRows, Joined, sum_rows
from scenc.data._window import WindowReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


def annbatch() -> Any:
    """Return the package.

    Raises
    ------
    ImportError
        It is not installed; the message says how to.
    """
    if find_spec("annbatch") is None:
        raise ImportError(
            "Stores of cells need annbatch: install scenc with its extra, scenc[atlas]."
        )
    with quiet():
        return import_module("annbatch")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep to themselves what anndata, pandas and zarr say to annbatch about their futures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def fast_codecs() -> Iterator[None]:
    """Let zarr decompress by zarrs, several times as fast, where that is installed."""
    if find_spec("zarrs") is None:
        yield
        return
    import zarr

    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        yield


class StoreReader(WindowReader):
    """Read cells of a store through annbatch.

    Parameters
    ----------
    groups
        The store's data sets, as open zarr groups.
    n_cells
        Number of cells of each.
    gene_map
        Vocabulary index of each gene of the store, or what else it is (`Tokenizer`).
    n_genes
        Number of genes of the vocabulary.
    """

    def __init__(
        self,
        groups: Sequence[Any],
        n_cells: NDArray[np.int64],
        gene_map: NDArray[np.int64],
        n_genes: int,
    ) -> None:
        super().__init__(n_cells, n_genes)
        self._gene_map = gene_map.astype(np.int32)
        self._as_stored = np.array_equal(gene_map, np.arange(n_genes))
        self._sampler = _one_request()
        with quiet():
            self._loader = _loader(groups, self._sampler)

    def gather(self, cells: NDArray[np.int64]) -> GeneRows:
        """Return the non-zero counts of cells, by the vocabulary."""
        if not len(cells):
            return NO_ROWS
        self._sampler.cells = cells
        with fast_codecs():
            (batch,) = self._loader
        matrix = batch["X"]
        indptr = matrix.indptr.astype(np.int64)
        data = matrix.data.astype(np.float32, copy=False)
        if self._as_stored:
            return GeneRows(indptr, matrix.indices, data, sum_rows(indptr, data))
        joined = Joined(len(cells), matrix.nnz)
        joined.add(indptr, matrix.indices, data, np.arange(len(cells)), self._gene_map)
        return joined.rows()


def _loader(groups: Sequence[Any], sampler: Any) -> Any:
    from anndata.io import sparse_dataset

    loader = annbatch().Loader(batch_sampler=sampler, preload_to_gpu=False, to=None)
    return loader.add_datasets([sparse_dataset(group["X"]) for group in groups])


def _one_request() -> Any:
    """Return a sampler of annbatch that asks once, for the cells it is told."""

    class OneRequest(annbatch().abc.Sampler):  # type: ignore[misc]
        cells = np.zeros(0, np.int64)
        batch_size = None
        shuffle = False

        def n_batches(self, n_obs: int) -> int:
            return 1

        def validate(self, n_obs: int) -> None:
            pass

        def _sample(self, n_obs: int) -> Iterator[dict[str, Any]]:
            yield {"requests": self.cells, "splits": [np.arange(len(self.cells))]}

    return OneRequest()
