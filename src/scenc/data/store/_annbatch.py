"""annbatch, which is optional, and how it is asked for just the cells that are wanted."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from scenc.data.loading import CellReader
from scenc.data.tokens import NO_ROWS, GeneRows, Joined

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


class StoreReader(CellReader):
    """Read cells of a store through annbatch.

    Parameters
    ----------
    groups
        The store's data sets, as open zarr groups.
    n_cells
        Number of cells of each.
    gene_map
        Vocabulary index of each gene of the store, `UNKNOWN` or `COUNTED`.
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
        super().__init__(n_cells)
        self._gene_map = gene_map.astype(np.int32)
        self._as_stored = np.array_equal(gene_map, np.arange(n_genes))
        with quiet():
            self._loader = _loader(groups)

    def reading_order(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Put cells of one data set beside each other: so annbatch reads them."""
        files, _ = self.locate(cells)
        return np.argsort(files, kind="stable")

    def gather(self, cells: NDArray[np.int64]) -> GeneRows:
        """Return the non-zero counts of cells, in the order of their data sets."""
        if not len(cells):
            return NO_ROWS
        with fast_codecs():
            indptr, indices, data = _read_rows(self._loader, cells)
        if self._as_stored:
            return GeneRows(indptr, indices, data, None)
        joined = Joined(len(cells), len(data))
        joined.add(indptr, indices, data, np.arange(len(cells)), self._gene_map)
        return joined.rows()


def _read_rows(
    loader: Any, cells: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float32]]:
    """Read rows that are in the order of their data sets, as arrays of a CSR matrix.

    Iterating over the loader would give them, too, but copied once more, which takes half as long
    as reading and decompressing them does.
    """
    from zarr.core.sync import sync

    # Neither method is public: hence the upper bound of annbatch's versions in pyproject.toml.
    rows, _ = loader._requests_to_dataset_rows(cells)
    data, indices, indptr = sync(loader._index_datasets(rows)).elems
    return indptr.astype(np.int64), indices, data.astype(np.float32, copy=False)


def _loader(groups: Sequence[Any]) -> Any:
    from anndata.io import sparse_dataset

    loader = annbatch().Loader(
        batch_size=1, chunk_size=1, preload_nchunks=1, shuffle=False, preload_to_gpu=False, to=None
    )
    return loader.add_datasets([sparse_dataset(group["X"]) for group in groups])
