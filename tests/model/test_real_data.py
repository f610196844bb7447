from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from scenc.model import Model

FILES = {
    "kang18": "kang18_ctrl_8donors_1287genes.h5ad",
    "pbmc3k": "pbmc3k.h5ad",
    "luad": "luad_gse131907_58samples_2000genes.h5ad",
}
N_CELLS = 300


def read(folder, name, n_cells=N_CELLS):
    adata = anndata.read_h5ad(folder / FILES[name])
    rows = np.random.default_rng(0).choice(adata.n_obs, n_cells, replace=False)
    return adata[np.sort(rows)].copy()


@pytest.fixture(scope="module", params=FILES)
def cells(request, shared_data):
    return read(shared_data, request.param)


@pytest.fixture(scope="module")
def text_vectors(shared_data):
    with np.load(shared_data / "genes" / "gene_text_minilm_384.npz", allow_pickle=True) as file:
        table = pd.DataFrame(file["embedding"], index=file["symbol"])
    return table[~table.index.duplicated()]


@pytest.mark.slow
# True of these data, and what both warnings are for.
@pytest.mark.filterwarnings("ignore:Category .* has fewer than 3 cells")
@pytest.mark.filterwarnings("ignore:.* genes stand in several columns")
def test_every_encoding_learns_from_real_cells(cells, make_model, train, text_vectors, encoding):
    settings = {"context": 96, "protein_embeddings": None, **encoding}
    if encoding["gene_encoder"] == "protein":
        settings["protein_embeddings"] = text_vectors.reindex(cells.var_names).to_numpy()
    model = make_model(cells.copy(), {"labels_key": "cell_type"}, **settings)
    train(model, max_epochs=4, batch_size=16, lr=5e-3)
    losses = model.history["train_loss"]["train_loss"]
    assert np.isfinite(losses).all()
    assert losses.iloc[-10:].mean() < 0.7 * losses.iloc[:3].mean()
    validation = model.history["reconstruction_loss_validation"].iloc[:, 0]
    assert validation.min() < validation.iloc[0]
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.slow
def test_the_embedding_serves_scanpy_and_scib_metrics(shared_data, make_model, train):
    from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation

    adata = read(shared_data, "kang18", 400)
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


def test_loading_works_on_real_names(shared_data, make_model, train, tmp_path):
    adata = read(shared_data, "luad", 60)
    model = train(make_model(adata), max_epochs=1)
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model")
    np.testing.assert_array_equal(
        loaded.get_latent_representation(adata.copy()), model.get_latent_representation()
    )
