"""One model, data whose genes go by other names."""

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scenc
from scenc.genes import harmonize

# Current symbol, previous symbol or alias, Ensembl id.
NAMES = pd.DataFrame(
    [
        ("INTS11", "CPSF3L", "ENSG00000127054"),
        ("MARCHF1", "MARCH1", "ENSG00000145416"),
        ("CD4", "CD4", "ENSG00000010610"),
        ("MS4A1", "MS4A1", "ENSG00000156738"),
        ("CD3E", "CD3E", "ENSG00000198851"),
        ("NKG7", "NKG7", "ENSG00000105374"),
        ("LYZ", "LYZ", "ENSG00000090382"),
        ("CD8A", "CD8A", "ENSG00000153563"),
        ("GNLY", "GNLY", "ENSG00000115523"),
        ("CST3", "CST3", "ENSG00000101439"),
        ("CD79A", "CD79A", "ENSG00000105369"),
        ("FCGR3A", "FCGR3A", "ENSG00000203747"),
    ],
    columns=["current", "old", "ensembl"],
)


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.5, (40, len(NAMES))).astype(np.float32)
    counts[:, 0] += 1
    return counts


@pytest.fixture(scope="module")
def by_symbol(cells, make_model, train):
    return train(make_model(make(cells, NAMES["current"])), max_epochs=1)


def make(counts, names):
    return anndata.AnnData(
        counts,
        obs=pd.DataFrame(index=[f"cell{i}" for i in range(len(counts))]),
        var=pd.DataFrame(index=pd.Index(list(names), dtype=object)),
    )


def embed(model, counts, names):
    return model.get_latent_representation(make(counts, names), key_added=None)


def test_the_names_are_what_the_table_says():
    assert harmonize(NAMES["old"]).mapped.tolist() == NAMES["current"].tolist()
    assert harmonize(NAMES["current"], "ensembl").mapped.tolist() == NAMES["ensembl"].tolist()


@pytest.mark.parametrize("names", ["old", "ensembl"])
def test_a_model_of_symbols_embeds_data_by_other_names(by_symbol, cells, names):
    expected = by_symbol.get_latent_representation()
    np.testing.assert_allclose(embed(by_symbol, cells, NAMES[names]), expected, atol=1e-5)


def test_a_model_of_ensembl_ids_embeds_symbols(cells, make_model, train):
    model = train(make_model(make(cells, NAMES["ensembl"])), max_epochs=1)
    expected = model.get_latent_representation()
    np.testing.assert_allclose(embed(model, cells, NAMES["current"]), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.* lacks .* genes that count for the library size")
@settings(max_examples=25)
@given(data=st.data())
def test_renamed_permuted_and_unknown_genes_change_nothing(by_symbol, cells, data):
    kept = data.draw(st.permutations(range(len(NAMES))))[: data.draw(st.integers(6, len(NAMES)))]
    styles = [data.draw(st.sampled_from(["current", "old", "ensembl", "version"])) for _ in kept]
    names = [
        f"{NAMES['ensembl'][gene]}.{gene + 1}" if style == "version" else NAMES[style][gene]
        for gene, style in zip(kept, styles, strict=True)
    ]
    strangers = data.draw(st.integers(0, 3))
    names += [f"stranger-{i}" for i in range(strangers)]
    noise = np.full((len(cells), strangers), 7.0, np.float32)
    shared = embed(by_symbol, cells[:, kept], NAMES["current"][kept])
    renamed = embed(by_symbol, np.hstack([cells[:, kept], noise]), names)
    np.testing.assert_allclose(renamed, shared, atol=1e-5)


def test_an_alias_beside_the_name_itself_is_reported_and_not_used(by_symbol, cells):
    names = [*NAMES["current"], "CPSF3L"]
    extra = np.hstack([cells, np.full((len(cells), 1), 9.0, np.float32)])
    with pytest.warns(UserWarning, match="several columns.*\n?[^$]*CPSF3L"):
        z = embed(by_symbol, extra, names)
    np.testing.assert_allclose(z, by_symbol.get_latent_representation(), atol=1e-5)


@pytest.mark.filterwarnings("ignore:.* lacks .* genes that count for the library size")
def test_two_equal_claims_are_both_left_out_and_reported(by_symbol, cells):
    versions = ["ENSG00000127054.1", "ENSG00000127054.2"]
    names = [*NAMES["current"][1:], *versions]
    counts = np.hstack([cells[:, 1:], cells[:, :1], cells[:, :1]])
    with pytest.warns(UserWarning, match="several columns"):
        z = embed(by_symbol, counts, names)
    without = embed(by_symbol, cells[:, 1:], NAMES["current"][1:])
    np.testing.assert_allclose(z, without, atol=1e-5)


def test_training_data_with_one_gene_twice_are_warned_about(cells):
    adata = make(cells, ["CPSF3L", *NAMES["current"][:-1]])
    with pytest.warns(UserWarning, match="CPSF3L, INTS11|INTS11, CPSF3L"):
        scenc.Model.setup_anndata(adata)


def test_the_reports_go_into_uns_and_can_be_written(by_symbol, cells, tmp_path):
    query = make(cells, NAMES["old"])
    by_symbol.get_latent_representation(query)
    query.write_h5ad(tmp_path / "query.h5ad")
    report = anndata.read_h5ad(tmp_path / "query.h5ad").uns["X_scenc_genes"]
    assert report["n_matched"] == len(NAMES)
    assert report["counts"]["previous"] == 2
    assert by_symbol.adata.uns["scenc_genes"]["counts"]["symbol"] == len(NAMES)


def test_coverage_is_told(by_symbol, cells):
    found = by_symbol.gene_coverage(make(cells[:, :6], NAMES["ensembl"][:6]))
    assert found.coverage == 0.5
    assert "50.0 %" in str(found)


def test_genes_to_predict_go_by_any_name(by_symbol):
    by_id = by_symbol.predict_expression(genes=["ENSG00000127054", "CD4"])
    named = by_symbol.predict_expression(genes=["INTS11", "CD4"])
    np.testing.assert_array_equal(by_id.to_numpy(), named.to_numpy())
    with pytest.raises(ValueError, match="not in the model's vocabulary: FOXP3"):
        by_symbol.predict_expression(genes=["FOXP3"])


def test_protein_vectors_are_matched_by_name_too(cells, make_model):
    vectors = np.random.default_rng(1).normal(size=(len(NAMES), 5)).astype(np.float32)
    tables = []
    for names in ("current", "ensembl"):
        frame = pd.DataFrame(vectors, index=NAMES[names]).iloc[::-1]
        model = make_model(
            make(cells, NAMES["old"]), gene_encoder="protein", protein_embeddings=frame
        )
        tables.append(model.module.gene_encoder.vectors.numpy())
    np.testing.assert_array_equal(tables[0], vectors)
    np.testing.assert_array_equal(tables[1], vectors)
