import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import mean_poisson_deviance


@pytest.fixture
def bench(script):
    return script("bench_expression")


@pytest.fixture
def two_types(bench):
    """Return 120 cells of two types with profiles of their own, over 40 genes, split in two."""
    rng = np.random.default_rng(0)
    profiles = rng.dirichlet(np.full(40, 0.5), size=2)
    types = np.repeat([0, 1], 60)
    counts = rng.poisson(profiles[types] * 2000).astype(np.float32)
    seen, hidden = bench.split_counts(sp.csr_matrix(counts), rng)
    obs = pd.DataFrame({"cell_type": np.array(["B", "T"])[types]}, [str(i) for i in range(120)])
    var = pd.DataFrame(index=[f"gene{i}" for i in range(40)])
    return bench.Halves(ad.AnnData(seen, obs, var), hidden, None, 0), profiles[types]


def test_every_molecule_is_in_one_half(bench):
    counts = sp.random(300, 50, density=0.3, format="csr", random_state=0, dtype=np.float32)
    counts.data = np.ceil(counts.data * 20)
    seen, hidden = bench.split_counts(counts, np.random.default_rng(0))
    assert (seen + hidden != counts).nnz == 0
    assert min(seen.data.min(), hidden.data.min()) == 1
    # 4 standard deviations of a binomial.
    n = counts.sum()
    assert abs(seen.sum() - n / 2) < 4 * np.sqrt(n / 4)
    again, _ = bench.split_counts(counts, np.random.default_rng(0))
    assert (again != seen).nnz == 0


@pytest.mark.parametrize("n_rows", [30, 1])
def test_deviance_is_that_of_scikit_learn(bench, n_rows):
    rng = np.random.default_rng(0)
    hidden = rng.poisson(0.7, size=(30, 8))
    share = rng.dirichlet(np.ones(8), size=n_rows)
    library = rng.uniform(1, 20, size=30)
    expected = mean_poisson_deviance(hidden.ravel(), (share * library[:, None]).ravel())
    found = bench.poisson_deviance(sp.csr_matrix(hidden), share, library)
    assert found == pytest.approx(expected)


def test_neighbor_means_by_hand(bench):
    places = np.array([[0.0], [1.0], [10.0], [11.0]])
    values = sp.csr_matrix(np.array([[3.0, 0], [0, 3], [6, 0], [0, 0]]))
    background = np.array([[0.0, 3.0]])
    found = bench.neighbor_means(places, values, background, 2)
    np.testing.assert_allclose(found, [[1, 2], [1, 2], [2, 1], [2, 1]])
    others = bench.neighbor_means(places, values, background, 1, with_itself=False)
    np.testing.assert_allclose(others, [[0, 3], [1.5, 1.5], [0, 1.5], [3, 1.5]])


def test_predictors_lie_between_the_mean_and_the_truth(bench, two_types):
    halves, profiles = two_types
    losses = {
        name: bench.poisson_deviance(halves.hidden, share, halves.library)
        for name, share in {
            "mean": bench.gene_mean(halves, []).share,
            "knn": bench.knn(halves, ["gene0"]).share,
            "truth": profiles,
        }.items()
    }
    assert losses["truth"] < losses["knn"] < 0.5 * losses["mean"]


def test_hidden_genes_are_found_from_neighbors(bench, two_types):
    halves, profiles = two_types
    ratio = np.abs(np.log(profiles[0] / profiles[-1]))
    markers = [f"gene{i}" for i in np.argsort(-ratio)[:3]]
    found = bench.marker_correlations(halves, bench.knn(halves, markers).markers)
    assert found == pytest.approx(dict.fromkeys(markers, 1.0))
    opposite = -halves.seen.to_df()[markers]
    assert bench.marker_correlations(halves, opposite) == pytest.approx(
        dict.fromkeys(markers, -1.0)
    )


def test_deviance_of_hidden_genes(bench, two_types):
    halves, profiles = two_types
    genes = ["gene3", "gene0"]
    columns = [3, 0]
    mean = bench.mean_share(halves.seen.X)[:, columns]
    assert bench.explained_of(halves, genes, mean) == pytest.approx(0)
    hidden = halves.hidden[:, columns].toarray().ravel()
    library = halves.library[:, None]
    of_truth, of_mean = (
        mean_poisson_deviance(hidden, (share * library).ravel())
        for share in (profiles[:, columns], np.broadcast_to(mean, (120, 2)))
    )
    found = bench.explained_of(halves, genes, profiles[:, columns])
    assert found == pytest.approx(1 - of_truth / of_mean)
    neighbors = bench.explained_of(halves, genes, bench.knn(halves, genes).marker_share)
    assert 0.5 * found < neighbors < found


def test_genes_and_cells_of_a_data_set(bench, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, size=(50, 30)).astype(np.float32)
    counts[7], counts[:, 3] = 0, 0
    obs = pd.DataFrame({"batch": "one", "cell_type": "B"}, [f"cell{i}" for i in range(50)])
    var = pd.DataFrame(index=[f"gene{i}" for i in range(30)])
    ad.AnnData(sp.csr_matrix(counts), obs, var).write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setitem(bench.SETS, "cells", type(bench.SETS["luad"])("cells.h5ad", batches=False))
    monkeypatch.setitem(bench.MARKERS, "cells", ("gene1", "absent"))
    halves = bench.read_halves("cells", tmp_path, seed=0)
    assert halves.seen.n_obs == 49
    assert "cell7" not in halves.seen.obs_names
    assert "gene3" not in halves.seen.var_names
    assert bench.markers_of(halves, "cells") == ["gene1"]
    whole = pd.DataFrame(counts, obs.index, var.index)
    whole = whole.loc[halves.seen.obs_names, halves.seen.var_names]
    np.testing.assert_array_equal((halves.seen.X + halves.hidden).toarray(), whole)
    assert bench.run("cells", bench.METHODS["gene_mean"], 0, tmp_path)["explained"] == 0
