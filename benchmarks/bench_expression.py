"""Predict molecules that were hidden: scenc's decoder, scVI, smoothing over neighbours, the mean.

    python benchmarks/bench_expression.py DATA_DIR --sets choose --methods compared --seeds 0 1 2

**Hidden molecules.** Each molecule is hidden with probability 1/2 (a binomial split of every
count). A method sees the others, and predicts each gene's share of a cell's molecules; this share
times the number of molecules seen in the cell is the count to expect among the hidden ones, since
as many are hidden as are seen in the mean. All methods get the same counts of the 2,000 genes that
vary most among the seen molecules, and the same expected library. The loss is the Poisson deviance
relative to the saturated model, 2 (x log(x / m) - x + m) for a hidden count x and its expectation
m, in the mean over all cells and genes; ``explained`` is the share by which it falls below that of
the genes' mean shares (D squared). Halves of Poisson counts are independent, so no method can know
the hidden half's noise: 1 is out of reach.

**Hidden genes.** Ten marker genes are taken from every cell at once, and predicted from the others.
``marker_correlation`` is Pearson's, over cell types with 20 cells or more, of a type's mean
prediction and its mean log-normalised hidden counts, in the mean over the genes.
``hidden_genes_explained`` is ``explained`` of these genes alone. scVI takes no part: it has no way
to leave genes out of a cell.

One line of JSON per data set, method and seed goes to ``--out``, as in bench_quality.py.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from bench_quality import (
    MIN_CELLS,
    SETS,
    Method,
    RunFile,
    Stopwatch,
    cells_shown,
    chosen_methods,
    chosen_sets,
    command_line,
    compute_missing,
    fit_scenc,
    fit_scvi,
    log_normalised,
    principal_components,
    print_table,
    variable_genes,
)
from scipy.special import xlogy
from sklearn.neighbors import NearestNeighbors

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

K = 15
# Draws of z over which scVI and scenc average what they decode.
N_SAMPLES = 10

BLOOD = ("CD3D", "IL7R", "CD8A", "NKG7", "GNLY", "MS4A1", "CD79A", "LYZ", "FCGR3A", "PPBP")
TUMOUR = ("TRAC", "CD8A", "NKG7", "CD79A", "MS4A1", "LYZ", "EPCAM", "DCN", "TPSAB1", "CLDN5")
MARKERS = dict.fromkeys(SETS, BLOOD) | {"luad": TUMOUR}


@dataclass(frozen=True)
class Halves:
    """One data set's counts, split in two.

    Attributes
    ----------
    seen
        Cells x genes: the seen counts, with the cells' annotation.
    hidden
        The hidden counts of the same cells and genes.
    batch_key
        The column of ``obs`` with the batches, where there is more than one.
    seed
        Of the split and of the methods.
    """

    seen: ad.AnnData
    hidden: sp.csr_matrix
    batch_key: str | None
    seed: int

    @property
    def library(self) -> NDArray[np.float64]:
        """Molecules to expect among a cell's hidden ones: as many as are seen, ``(n_cells,)``."""
        return np.asarray(self.seen.X.sum(axis=1), dtype=np.float64).ravel()


@dataclass(frozen=True)
class Prediction:
    """What a method says of the hidden half.

    Attributes
    ----------
    share
        Each gene's share of a cell's molecules, ``(n_cells, n_genes)``, or ``(1, n_genes)`` where
        all cells have the same.
    markers
        Expression of the genes hidden from every cell, cells x genes; ``None``: not predicted.
    measured
        Seconds and cells shown.
    marker_share
        Shares of these genes, as in `share`, shape ``(n_cells, n_markers)``.
    """

    share: NDArray[np.floating[Any]]
    markers: pd.DataFrame | None
    measured: dict[str, float]
    marker_share: NDArray[np.floating[Any]] | None = None


def split_counts(
    counts: sp.csr_matrix, rng: np.random.Generator
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Split counts into two halves: each molecule goes to either with probability 1/2."""
    seen, hidden = counts.copy(), counts.copy()
    seen.data = rng.binomial(counts.data.astype(np.int64), 0.5).astype(np.float32)
    hidden.data = counts.data - seen.data
    for half in (seen, hidden):
        half.eliminate_zeros()
    return seen, hidden


def read_halves(name: str, folder: Path, seed: int) -> Halves:
    """Read a data set, split it and choose its genes.

    Genes are the most variable of the seen half, and the markers. Cells in which none of their
    molecules is seen are left out.
    """
    data = SETS[name]
    adata = ad.read_h5ad(folder / data.file)
    counts, hidden = split_counts(sp.csr_matrix(adata.X), np.random.default_rng(seed))
    seen = ad.AnnData(counts, obs=adata.obs[["batch", "cell_type"]], var=adata.var[[]])
    seen = seen[:, np.asarray(counts.sum(axis=0)).ravel() > 0].copy()
    chosen = set(variable_genes(seen, data.batch_key).var_names) | set(MARKERS[name])
    seen = seen[:, seen.var_names.isin(chosen)].copy()
    some = np.asarray(seen.X.sum(axis=1)).ravel() > 0
    hidden = hidden[:, adata.var_names.get_indexer(seen.var_names)][some]
    return Halves(seen[some].copy(), hidden.tocsr(), data.batch_key, seed)


def markers_of(halves: Halves, name: str) -> list[str]:
    """Return the marker genes that the data set has counts of."""
    return [gene for gene in MARKERS[name] if gene in halves.seen.var_names]


def mean_share(counts: sp.csr_matrix) -> NDArray[np.float64]:
    """Return each gene's share of all molecules, shape ``(1, n_genes)``."""
    total = np.asarray(counts.sum(axis=0), dtype=np.float64).reshape(1, -1)
    return total / total.sum()


def gene_mean(halves: Halves, markers: list[str]) -> Prediction:
    """Predict that all cells are like the mean cell."""
    watch = Stopwatch()
    share = mean_share(halves.seen.X)
    watch.stop("train")
    return Prediction(share, None, watch.seconds)


def neighbor_means(
    places: NDArray[Any],
    values: sp.csr_matrix,
    background: NDArray[Any],
    k: int,
    with_itself: bool = True,
) -> NDArray[np.float64]:
    """Return means over each cell's k nearest cells, itself among them or not, and the background.

    The background counts as one more neighbour, so that no gene that is counted at all is expected
    never to be.
    """
    nearest = NearestNeighbors(n_neighbors=min(k, len(places) - 1)).fit(places)
    graph = nearest.kneighbors_graph(places if with_itself else None)
    total = (sp.csr_matrix(graph) @ values).toarray()
    return (total + background) / (nearest.n_neighbors + 1)


def knn(halves: Halves, markers: list[str], k: int = K) -> Prediction:
    """Smooth over neighbours in 50 principal components of the seen half."""
    watch = Stopwatch()
    seen = halves.seen
    shares = sp.diags(1 / halves.library) @ seen.X
    places = principal_components(seen, halves.batch_key, halves.seed)
    share = neighbor_means(places, shares, mean_share(seen.X), k)
    watch.stop("train")
    # Neighbours for the markers are found without them, and a cell's own are not looked at.
    logged = log_normalised(seen)
    others = seen[:, ~seen.var_names.isin(markers)].copy()
    places = principal_components(others, halves.batch_key, halves.seed)
    values = logged[:, markers].X
    predicted = neighbor_means(places, values, np.asarray(values.mean(axis=0)), k, False)
    columns = seen.var_names.get_indexer(markers)
    background = mean_share(seen.X)[:, columns]
    of_markers = neighbor_means(places, shares.tocsc()[:, columns], background, k, False)
    return Prediction(share, pd.DataFrame(predicted, columns=markers), watch.seconds, of_markers)


def predict_scvi(halves: Halves, markers: list[str], **settings: Any) -> Prediction:
    """Run scVI with its defaults; it has no way to leave genes out of a cell."""
    import scvi  # noqa: F401, as importing it is no part of training

    watch = Stopwatch()
    model = fit_scvi(halves.seen, halves.batch_key, halves.seed, **settings)
    watch.stop("train")
    share = model.get_normalized_expression(n_samples=N_SAMPLES)[halves.seen.var_names].to_numpy()
    watch.stop("embed")
    return Prediction(share, None, watch.seconds)


def decode_scenc(halves: Halves, markers: list[str], **settings: Any) -> Prediction:
    """Decode scenc's embedding; the markers from the cells' other genes."""
    watch = Stopwatch()
    # All methods get the same genes: none are to be chosen from them.
    settings = {"objective": "generative", "n_top_genes": None, **settings}
    model = fit_scenc(halves.seen, halves.batch_key, halves.seed, **settings)
    watch.stop("train")
    share = model.get_normalized_expression(n_samples=N_SAMPLES)[halves.seen.var_names].to_numpy()
    watch.stop("embed")
    predicted = model.predict_expression(genes=markers)
    of_markers = np.expm1(predicted.to_numpy(np.float64)) / model.config.target_sum
    measured = {**watch.seconds, "visits": cells_shown(model)}
    return Prediction(share, predicted, measured, of_markers)


def smooth_scenc(halves: Halves, markers: list[str], **settings: Any) -> Prediction:
    """Smooth over neighbours in scenc's embedding, which takes no decoder of counts."""
    watch = Stopwatch()
    model = fit_scenc(
        halves.seen, halves.batch_key, halves.seed, **{"n_top_genes": None, **settings}
    )
    watch.stop("train")
    shares = sp.diags(1 / halves.library) @ halves.seen.X
    places = model.get_latent_representation()
    share = neighbor_means(places, shares, mean_share(halves.seen.X), K)
    watch.stop("embed")
    predicted = model.predict_expression(genes=markers)
    return Prediction(share, predicted, {**watch.seconds, "visits": cells_shown(model)})


COMPARED = {
    "gene_mean": Method(gene_mean),
    "knn": Method(knn),
    "knn_50": Method(knn, {"k": 50}),
    "scvi": Method(predict_scvi),
    "scenc": Method(decode_scenc),
    "scenc_zinb": Method(decode_scenc, {"likelihood": "zinb"}),
}
OTHERS = {
    "scenc_neighbors": Method(smooth_scenc),
    "scenc_no_partner": Method(decode_scenc, {"partner_share": 0.0}),
    "scenc_no_kl": Method(decode_scenc, {"kl_weight": 0.0}),
    "scenc_no_contrast": Method(decode_scenc, {"contrast_weight": 0.0}),
}
METHODS = {**COMPARED, **OTHERS}
FAMILIES = {"compared": list(COMPARED), "others": list(OTHERS)}
# What does not change with scenc.
BASELINES = ("gene_mean", "knn", "knn_50", "scvi")


def poisson_deviance(
    hidden: sp.csr_matrix, share: NDArray[Any], library: NDArray[np.float64]
) -> float:
    """Return the mean Poisson deviance per cell and gene, relative to the saturated model.

    With m = share x library it is 2 (x log(x / m) - x + m): the first term is 0 where the count is,
    and is worked out for the counts that are not.
    """
    counts = hidden.tocoo()
    wide = np.broadcast_to(share, hidden.shape)
    expected = wide[counts.row, counts.col].astype(np.float64) * library[counts.row]
    counted = xlogy(counts.data, counts.data / expected).sum(dtype=np.float64)
    total = (wide.sum(axis=1, dtype=np.float64) * library).sum()
    return float(2 * (counted - counts.data.sum(dtype=np.float64) + total) / np.prod(hidden.shape))


def marker_correlations(halves: Halves, predicted: pd.DataFrame) -> dict[str, float]:
    """Return, for each gene, the correlation over cell types of prediction and hidden counts."""
    hidden = ad.AnnData(halves.hidden.copy(), obs=halves.seen.obs, var=halves.seen.var)
    measured = log_normalised(hidden)[:, list(predicted)].to_df()
    types = halves.seen.obs["cell_type"].astype(str)
    types = types.where(types.map(types.value_counts()) >= MIN_CELLS)
    by_type = predicted.set_axis(measured.index).groupby(types).mean()
    found = by_type.corrwith(measured.groupby(types).mean())
    return {gene: float(value) for gene, value in found.items()}


def explained_of(halves: Halves, genes: list[str], share: NDArray[Any]) -> float:
    """Return the share of some genes' deviance from their mean shares that others explain.

    No gene is expected never to be counted: the least share is a thousandth of the gene's mean.
    """
    columns = halves.seen.var_names.get_indexer(genes)
    hidden, mean = halves.hidden[:, columns], mean_share(halves.seen.X)[:, columns]
    deviance = poisson_deviance(hidden, np.maximum(share, 1e-3 * mean), halves.library)
    return 1 - deviance / poisson_deviance(hidden, mean, halves.library)


def run(name: str, method: Method, seed: int, folder: Path) -> dict[str, Any]:
    """Split one data set and score one method's predictions of the hidden half."""
    halves = read_halves(name, folder, seed)
    found = method.run(halves, markers_of(halves, name), **method.settings)
    share, library = found.share, halves.library
    deviance = poisson_deviance(halves.hidden, share, library)
    of_mean = poisson_deviance(halves.hidden, mean_share(halves.seen.X), library)
    row = {
        "n_cells": halves.seen.n_obs,
        "n_genes": halves.seen.n_vars,
        "deviance": deviance,
        "explained": 1 - deviance / of_mean,
    }
    if found.markers is not None:
        correlations = marker_correlations(halves, found.markers)
        row["marker_correlation"] = float(np.nanmean(list(correlations.values())))
        row["markers"] = correlations
    if found.marker_share is not None:
        row["hidden_genes_explained"] = explained_of(halves, list(correlations), found.marker_share)
    return {**row, **found.measured}


def main() -> None:
    args = command_line(__doc__, METHODS, FAMILIES, "expression.jsonl").parse_args()
    warnings.simplefilter("ignore")
    names, methods = chosen_sets(args.sets), chosen_methods(args, METHODS, FAMILIES)
    file = RunFile(args.out, BASELINES, args.any_version)
    if not args.table:
        compute_missing(file, names, methods, args.seeds, lambda *chosen: run(*chosen, args.folder))
    rows = pd.DataFrame(file.rows())
    spread = [name for name in ("explained", "hidden_genes_explained") if name in rows]
    print_table(rows[rows["data"].isin(names)], spread)


if __name__ == "__main__":
    main()
