"""Methods other than scenc encodings: the protocol, and the baselines."""

from __future__ import annotations

import inspect
import logging
import math
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from scenc.benchmark.entries._fingerprint import digest
from scenc.benchmark.entries._seeding import seeded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

    from scenc.benchmark.entries._encodings import Encoding


@runtime_checkable
class Method(Protocol):
    """The protocol of an object that can be an entry of the benchmark.

    It is fitted to the training data once for each seed, always a fresh copy of it. With the
    attribute ``fit_on = "evaluation"`` it is fitted to each evaluation set instead, and counts as a
    baseline. With the methods ``save(folder)`` and ``load(folder)`` (which returns the fitted
    object) the fit is stored; without, only its embeddings are, and it is fitted again for
    evaluation sets that are added later.

    Stored results are used again if the method has the same settings and the source text of its
    class is the same. Settings are its attribute ``settings`` (plain values), or the fields of a
    dataclass, or else all its attributes.

    Examples
    --------
    >>> class TotalCounts:
    ...     settings = {}
    ...
    ...     def fit(self, adata, batch_key=None, seed=0):
    ...         pass
    ...
    ...     def embed(self, adata):
    ...         return np.asarray(adata.X.sum(axis=1)).reshape(-1, 1)
    >>> isinstance(TotalCounts(), scenc.benchmark.Method)
    True
    >>> TotalCounts().embed(adata).shape
    (700, 1)
    """

    def fit(self, adata: AnnData, batch_key: str | None = None, seed: int = 0) -> Any:
        """Fit to cells: raw counts in X, batches (if there are any) in ``obs[batch_key]``."""

    def embed(self, adata: AnnData) -> ArrayLike:
        """Return one row per cell, shape ``(n_cells, n_dims)``."""


@dataclass
class PCA:
    """Principal components of log-normalised, highly variable genes of the evaluation set.

    Unlike the encodings it is fitted to the cells that it is evaluated on.

    Attributes
    ----------
    n_components
        Number of components; fewer where cells or genes are fewer.
    n_genes
        Number of highly variable genes (by scanpy's rule for log-normalised values), or all there
        are.

    Examples
    --------
    >>> pca = scenc.benchmark.PCA(n_components=20)
    >>> pca.fit(adata)
    >>> pca.embed(adata).shape
    (700, 20)
    """

    n_components: int = 50
    n_genes: int = 2000

    name = "PCA"
    fit_on = "evaluation"
    # Stored results are found by this identity. Change it when the class computes something else.
    identity = (
        "scenc.benchmark._methods.PCA",
        "679667fb80fd22c218084affce0da464acae4e171839232d6be4fb9ea871c04e",
    )

    def fit(self, adata: AnnData, batch_key: str | None = None, seed: int = 0) -> None:
        """Choose genes and find the components."""
        from sklearn import decomposition

        logged = _log_normalised(adata)
        self._genes = _variable_genes(logged, self.n_genes)
        values = logged[:, self._genes].X.toarray()
        n_components = min(self.n_components, min(values.shape) - 1)
        components = decomposition.PCA(n_components, svd_solver="full", random_state=seed)
        self._components = components.fit(values)

    def embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the cells' components."""
        values = _log_normalised(adata)[:, self._genes].X.toarray()
        return np.asarray(self._components.transform(values), dtype=np.float32)


@dataclass
class SCVI:
    """The latent space of scVI, fitted to the evaluation set with its batches.

    Unlike the encodings it is fitted to the cells that it is evaluated on, and knows their batches.

    Attributes
    ----------
    max_epochs
        Passes over the cells; ``None``: scvi-tools' default, 400 for up to 20,000 cells.
    n_genes
        Number of highly variable genes that it sees, chosen as for `PCA`, or all there are.
    n_latent, n_layers, n_hidden
        As in `scvi.model.SCVI`; the defaults are its own.

    Examples
    --------
    >>> scvi = scenc.benchmark.SCVI(max_epochs=1)
    >>> scvi.fit(query, batch_key="donor_id")
    >>> embedding = scvi.embed(query)
    >>> embedding.shape
    (700, 10)
    """

    max_epochs: int | None = None
    n_genes: int = 2000
    n_latent: int = 10
    n_layers: int = 1
    n_hidden: int = 128

    name = "scVI"
    fit_on = "evaluation"
    # Stored results are found by this identity. Change it when the class computes something else.
    identity = (
        "scenc.benchmark._methods.SCVI",
        "a68087bfbcea13b5b4a30239f9f12b1dab3e24ee2787cf72c76b7fe4bce5d811",
    )

    def fit(self, adata: AnnData, batch_key: str | None = None, seed: int = 0) -> None:
        """Train on the cells."""
        from scvi.model import SCVI as Model

        self._genes = _variable_genes(_log_normalised(adata), self.n_genes)
        adata = adata[:, self._genes].copy()
        with seeded(seed), _quiet():
            Model.setup_anndata(adata, batch_key=batch_key)
            self._model = Model(
                adata, n_latent=self.n_latent, n_layers=self.n_layers, n_hidden=self.n_hidden
            )
            n_train = math.ceil(0.9 * adata.n_obs)
            # A last batch of one cell has no variance to normalise by.
            alone = n_train > 128 and n_train % 128 == 1
            self._model.train(
                self.max_epochs,
                enable_progress_bar=False,
                datasplitter_kwargs={"drop_last": True} if alone else None,
            )

    def embed(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the means of the cells' latent distributions."""
        cells = adata[:, self._genes].copy()
        return np.asarray(self._model.get_latent_representation(cells), dtype=np.float32)


@dataclass(frozen=True)
class Untrained:
    """A scenc model with its initial weights: the embedding without any training.

    Attributes
    ----------
    encoding
        The encoding to leave untrained.

    Examples
    --------
    >>> encoding = scenc.benchmark.Encoding("learned", "soft")
    >>> scenc.benchmark.Untrained(encoding).title()
    'untrained (learned + soft)'
    """

    encoding: Encoding

    def title(self, gene_vectors: str | None = None) -> str:
        """Return the display name; see `Encoding.title`."""
        return f"untrained ({self.encoding.title(gene_vectors)})"


def method_settings(method: Any) -> dict[str, Any]:
    """Return the plain values by which a method's stored results are found.

    Raises
    ------
    TypeError
        Its settings are not plain values.
    """
    if hasattr(method, "settings"):
        settings = method.settings() if callable(method.settings) else method.settings
    elif is_dataclass(method) and not isinstance(method, type):
        settings = asdict(method)
    else:
        settings = dict(getattr(method, "__dict__", {}))
    kind = type(method)
    package = kind.__module__.partition(".")[0]
    # The baselines here have a fixed identity, so that moving or rewording them loses no results.
    name, source = getattr(
        kind, "identity", (f"{kind.__module__}.{kind.__qualname__}", _source(kind))
    )
    return {
        "class": name,
        "version": _version(package),
        "source": source,
        "settings": _plain(settings, f"the settings of {kind.__name__}"),
    }


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"{where} hold a {type(value).__name__}, which cannot be compared from run to run. Give "
        "the object an attribute `settings`: a dictionary of numbers and texts that tells its "
        "results from those with other settings."
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _source(kind: type) -> str | None:
    """Return the fingerprint of a class's text, so that a change to it is noticed."""
    try:
        return digest(inspect.getsource(kind))
    except (OSError, TypeError):
        return None


def _log_normalised(adata: AnnData) -> AnnData:
    import scanpy as sc

    logged = adata.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    return logged


def _variable_genes(logged: AnnData, n_genes: int) -> NDArray[np.intp]:
    import scanpy as sc

    if logged.n_vars <= n_genes:
        return np.arange(logged.n_vars)
    found = sc.pp.highly_variable_genes(logged, n_top_genes=n_genes, inplace=False)
    return np.flatnonzero(found["highly_variable"].to_numpy())


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's messages about devices and about reaching the last epoch."""
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)
