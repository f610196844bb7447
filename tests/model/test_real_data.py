from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from scenc.model import Model

SHIPPED = "pbmc68k"
KANG, PBMC3K, LUAD = (
    pytest.param(name, marks=pytest.mark.shared)
    for name in ("kang18_ctrl_8donors_1287genes", "pbmc3k", "luad_gse131907_58samples_2000genes")
)


@pytest.fixture(scope="module")
def read(real_cells):
    """Return a reader of some cells of a data set."""

    def read(name, n_cells=300):
        adata = real_cells(name)
        rows = np.random.default_rng(0).choice(adata.n_obs, n_cells, replace=False)
        return adata[np.sort(rows)].copy()

    return read


@pytest.fixture(scope="module", params=[SHIPPED, KANG, PBMC3K, LUAD])
def data(request, read, make_vectors):
    """Cells and pretrained vectors of their genes, random or of texts on them; some have none."""
    cells = read(request.param)
    if request.param == SHIPPED:
        return cells, make_vectors(cells.var_names)
    folder = request.getfixturevalue("shared_data")
    with np.load(folder / "genes" / "gene_text_minilm_384.npz", allow_pickle=True) as file:
        texts = pd.DataFrame(file["embedding"], index=file["symbol"])
    return cells, texts[~texts.index.duplicated()].reindex(cells.var_names)


@pytest.mark.slow
# True of these data, and what both warnings are for.
@pytest.mark.filterwarnings("ignore:Category .* has fewer than 3 cells")
@pytest.mark.filterwarnings("ignore:.* genes stand in several columns")
def test_every_encoding_learns_from_real_cells(data, make_model, train, encoding):
    cells, vectors = data
    settings = {"context": 96, "protein_embeddings": None, **encoding}
    if encoding["gene_encoder"] == "protein":
        settings["protein_embeddings"] = vectors.to_numpy()
    model = make_model(cells.copy(), {"labels_key": "cell_type"}, **settings)
    train(model, max_epochs=4, batch_size=16, lr=5e-3)
    losses = model.history["train_loss"]["train_loss"]
    assert np.isfinite(losses).all()
    assert losses.iloc[-10:].mean() < 0.7 * losses.iloc[:3].mean()
    validation = model.history["reconstruction_loss_validation"].iloc[:, 0]
    assert validation.min() < validation.iloc[0]
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", [SHIPPED, KANG])
def test_the_embedding_serves_scanpy_and_scib_metrics(name, read, make_model, train):
    from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation

    adata = read(name, 400)
    kept = adata.obs["cell_type"].value_counts() >= 20
    adata = adata[adata.obs["cell_type"].isin(kept.index[kept])].copy()
    model = train(make_model(adata, {"batch_key": "batch", "labels_key": "cell_type"}))
    model.get_latent_representation()

    sc.pp.neighbors(adata, use_rep="X_scenc")
    sc.tl.umap(adata)
    sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False)
    assert adata.obsm["X_umap"].shape == (adata.n_obs, 2)
    assert adata.obs["leiden"].nunique() > 1

    benchmark = Benchmarker(
        adata,
        batch_key="batch",
        label_key="cell_type",
        embedding_obsm_keys=["X_scenc"],
        bio_conservation_metrics=BioConservation(
            isolated_labels=False, nmi_ari_cluster_labels_kmeans=False
        ),
        batch_correction_metrics=BatchCorrection(
            bras=False, kbet_per_label=False, pcr_comparison=False
        ),
        progress_bar=False,
    )
    benchmark.benchmark()
    results = benchmark.get_results(min_max_scale=False)
    assert np.isfinite(results.loc["X_scenc"].astype(float)).all()


@pytest.mark.parametrize("name", [SHIPPED, LUAD])
def test_loading_works_on_real_names(name, read, make_model, train, tmp_path):
    adata = read(name, 60)
    model = train(make_model(adata), max_epochs=1)
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model")
    np.testing.assert_array_equal(
        loaded.get_latent_representation(adata.copy()), model.get_latent_representation()
    )
