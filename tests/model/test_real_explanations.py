"""What is known of blood cells must be found in what a model says of them."""

import numpy as np
import pytest
import scanpy as sc

import scenc
from scenc.model import Model


@pytest.fixture(scope="module")
def blood(real_cells, train):
    """Preset small, after a short training on the cells that scanpy ships."""
    adata = real_cells("pbmc68k")
    adata.obs["kind"] = (
        adata.obs["cell_type"]
        .astype(str)
        .map(
            lambda name: {"CD19+ B": "B", "CD14+ Monocyte": "monocyte", "CD56+ NK": "NK"}.get(
                name, "T"
            )
        )
    )
    adata = adata[~adata.obs["cell_type"].isin(["Dendritic", "CD34+"])].copy()
    sc.pp.filter_genes(adata, min_cells=1)
    Model.setup_anndata(adata, labels_key="kind")
    return train(Model(adata), max_epochs=5, batch_size=64)


@pytest.mark.slow
def test_genes_of_a_lineage_are_near(blood):
    genes = blood.embed_genes(groupby="kind", progress=False)
    for given in (None, genes):
        assert "CD79B" in blood.nearest_genes("CD79A", 10, given).index
        assert {"GNLY", "GZMB", "PRF1"} & set(blood.nearest_genes("NKG7", 10, given).index)


@pytest.mark.slow
def test_programmes_are_more_than_like_expression(blood):
    genes = blood.embed_genes(progress=False)
    table = blood.gene_programmes(genes, n_random=99, progress=False)
    print(table.to_string())
    assert table["n_genes"].sum() == genes.n_obs
    of_b = genes.obs.loc["CD79A", "programme"]
    assert genes.obs.loc["CD79B", "programme"] == of_b
    assert table.loc[int(of_b), "p_value"] == 0.01


@pytest.mark.slow
def test_types_are_attributed_to_their_markers(blood, tmp_path):
    found = blood.attributions(max_cells=40, progress=False)
    print(found)
    print(found.agreement())
    assert (found.completeness_error < 0.05).all()
    assert {"CD79A", "CD79B", "CD74", "HLA-DRA"} & set(found.table["B"].nlargest(10).index)
    assert {"NKG7", "GNLY", "GZMB"} & set(found.table["NK"].nlargest(10).index)
    # Markers of other lineages count against a type.
    assert found.table.loc["CD79A", "B"] > found.table.loc["CD79A", "T"]
    axes = scenc.pl.attributions(found)
    axes[0, 0].figure.savefig(tmp_path / "attributions.png", dpi=110)


@pytest.mark.slow
def test_markers_matter_more_than_like_genes(blood):
    table = blood.delete_genes(["CD79A", "NKG7", "GNLY", "LYZ", "CD3D"], progress=False)
    print(table.to_string())
    assert np.isfinite(table).all(axis=None)
    assert (table.loc[["NKG7", "GNLY"], "sensitivity"] > 0).all()
