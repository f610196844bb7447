from __future__ import annotations

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from scenc.data import Tokenizer
from scenc.model import Model


@pytest.fixture(scope="module")
def generative(generative_model):
    return generative_model


@pytest.fixture(scope="module")
def genes(generative):
    return generative.embed_genes(groupby="cell_type", progress=False)


def hidden_states(model, counts):
    """Return each cell's tokens after the transformer, by cell and gene, one cell at a time."""
    tokenizer = Tokenizer(totals=True)
    found = {}
    for cell in range(len(counts)):
        batch = tokenizer(sp.csr_matrix(counts[[cell]]), np.array([0]), np.arange(counts.shape[1]))
        with torch.no_grad():
            states = model.module.transformer.hidden_states(model.module.embed_tokens(batch))
        for gene, state in zip(batch.genes[0].tolist(), states[0].numpy(), strict=True):
            found[cell, gene] = state
    return found


def test_gene_vectors_are_means_of_hidden_states(generative, genes):
    counts = generative.adata.X.toarray()
    states = hidden_states(generative, counts)
    types = generative.adata.obs["cell_type"].astype(str).to_numpy()
    for gene in (0, 17, 59):
        of_gene = {cell: state for (cell, g), state in states.items() if g == gene}
        assert genes.obs["n_cells"].iloc[gene] == len(of_gene) == (counts[:, gene] > 0).sum()
        expected = np.mean(list(of_gene.values()), axis=0)
        np.testing.assert_allclose(genes.X[gene], expected, rtol=1e-4, atol=1e-5)
        some = [state for cell, state in of_gene.items() if types[cell] == "type1"]
        assert genes.obsm["n_cells"]["type1"].iloc[gene] == len(some)
        np.testing.assert_allclose(
            genes.layers["type1"][gene], np.mean(some, axis=0), rtol=1e-4, atol=1e-5
        )
    assert genes.obs_names.tolist() == generative.vocabulary.tolist()
    np.testing.assert_array_equal(genes.obsm["gene_vector"], generative.get_gene_embeddings())


def test_embeddings_are_means_of_these_vectors(trained):
    # Under pooling="mean" the mean over all tokens is that over genes, weighted by cells.
    embedding = trained.get_latent_representation(key_added=None, max_genes=None)
    genes = trained.embed_genes(max_genes=None, progress=False)
    n_tokens = (trained.adata.X > 0).sum(axis=1).A1
    total = (embedding * n_tokens[:, None]).sum(axis=0)
    np.testing.assert_allclose(genes.X.T @ genes.obs["n_cells"], total, rtol=1e-3)


def test_cells_without_a_group_count_for_the_whole_only(generative, genes):
    query = generative.adata.copy()
    query.obs["kind"] = query.obs["cell_type"].astype(object).where(np.arange(120) < 60)
    found = generative.embed_genes(query, "kind", progress=False)
    np.testing.assert_allclose(found.X, genes.X, rtol=1e-5, atol=1e-6)
    n_first = (query.X[:60] > 0).sum(axis=0).A1
    np.testing.assert_array_equal(found.obsm["n_cells"].sum(axis=1), n_first)


def test_genes_can_be_written_and_read(generative, tmp_path):
    query = generative.adata.copy()
    query.obs["kind"] = query.obs["cell_type"].astype(str).replace("type1", "T/NK").to_numpy()
    found = generative.embed_genes(query, "kind", progress=False)
    assert "T|NK" in found.layers
    found.write_h5ad(tmp_path / "genes.h5ad")
    read = anndata.read_h5ad(tmp_path / "genes.h5ad")
    np.testing.assert_array_equal(read.X, found.X)
    near = generative.nearest_genes("FAKE3", 2, found, layer="T/NK")
    assert near.equals(generative.nearest_genes("FAKE3", 2, read, layer="T|NK"))


def test_nearest_genes_by_cosine(generative, genes):
    for given, table in ((None, generative.get_gene_embeddings().to_numpy()), (genes, genes.X)):
        units = table / np.linalg.norm(table, axis=1, keepdims=True)
        cosine = pd.Series(units @ units[7], generative.vocabulary).drop("FAKE7")
        expected = cosine.nlargest(5)
        found = generative.nearest_genes("FAKE7", 5, given)
        assert found.index.tolist() == expected.index.tolist()
        np.testing.assert_allclose(found["cosine_similarity"], expected, rtol=1e-5)
        assert found.index.name == "gene"


def test_one_cell_with_missing_genes_and_an_unseen_batch(generative):
    query = generative.adata[[5], :40].copy()
    query.obs["batch"] = "elsewhere"
    expressed = np.flatnonzero(query.X.toarray()[0])
    left_out = f"{60 - len(expressed)} of 60 genes are left out"
    with (
        pytest.warns(UserWarning, match="lacks 20 of 60 genes"),
        pytest.warns(UserWarning, match=left_out),
    ):
        found = generative.embed_genes(query, "cell_type", progress=False)
    assert found.obs_names.tolist() == query.var_names[expressed].tolist()
    assert (found.obs["n_cells"] == 1).all()
    with pytest.raises(ValueError, match="None of these cells expresses FAKE59"):
        generative.nearest_genes("FAKE59", genes=found)


def test_backed_cells_and_mudata_give_the_same(generative, genes, tmp_path):
    adata = generative.adata
    plain = anndata.AnnData(adata.X.copy(), adata.obs[["cell_type", "batch"]], adata.var)
    plain.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    found = generative.embed_genes(backed, "cell_type", progress=False)
    np.testing.assert_allclose(found.X, genes.X, rtol=1e-5, atol=1e-6)
    table = generative.gene_programmes(found, backed, n_random=9, n_neighbors=5, progress=False)
    assert table["n_genes"].sum() == 60
    backed.file.close()


def test_mudata(make_adata, train):
    adata = make_adata()
    mdata = mudata.MuData({"rna": adata})
    Model.setup_mudata(mdata, modalities={"rna_layer": "rna"})
    model = train(Model(mdata, objective="masked", d_model=16, n_layers=1, n_heads=2), max_epochs=1)
    found = model.embed_genes(groupby="cell_type", progress=False)
    assert {"type0", "type1", "type2"} <= set(found.layers)
    assert len(model.gene_programmes(found, n_random=9, n_neighbors=5, progress=False))


def test_programmes_are_written_beside_their_table(generative, genes):
    cells = genes.copy()
    table = generative.gene_programmes(cells, n_random=19, n_neighbors=5, progress=False)
    sizes = cells.obs["programme"].value_counts()
    assert sizes.loc[table.index.astype(str)].tolist() == table["n_genes"].tolist()
    for name, row in table.iterrows():
        members = set(cells.obs_names[cells.obs["programme"] == str(name)])
        assert set(row["genes"].split(", ")) <= members
    # Again, into the same column; a user's own column is not written over.
    assert generative.gene_programmes(cells, n_random=19, n_neighbors=5, progress=False).equals(
        table
    )
    cells.obs["mine"] = "x"
    with pytest.raises(ValueError, match="column 'mine' of its own"):
        generative.gene_programmes(cells, key_added="mine")


def test_errors_name_the_fix(generative, genes, make_adata, make_model):
    with pytest.raises(ValueError, match="Nearest to 'FAKE7X': FAKE7"):
        generative.nearest_genes("FAKE7X")
    with pytest.raises(KeyError, match="cell_kind.*cell_type"):
        generative.embed_genes(groupby="cell_kind")
    with pytest.raises(KeyError, match=r"no layer 'B': there are type0.*groupby"):
        generative.nearest_genes("FAKE7", genes=genes, layer="B")
    strange = genes.copy()
    strange.obs_names = [f"X{name}" for name in strange.obs_names]
    with pytest.raises(ValueError, match="no genes of the model: XFAKE0.*embed_genes"):
        generative.gene_programmes(strange)
    with pytest.raises(ValueError, match="There are 2 genes"):
        generative.gene_programmes(genes[:2].copy())
    with pytest.raises(RuntimeError, match="not trained"):
        make_model(make_adata()).embed_genes()
