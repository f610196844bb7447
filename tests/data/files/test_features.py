"""Antibodies, hashtags, guides and peaks are no genes, wherever the data are read."""

from __future__ import annotations

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scenc.data import CellFiles, CellFilesError
from scenc.data.counts import inspect_counts
from scenc.genes import flag_genes, read_gene_names
from scenc.model import Model

QUIET = {"progress": False, "validation_size": 0.0}
N_GENES, N_OTHERS = 40, 8
KINDS = ["Gene Expression"] * N_GENES + ["Antibody Capture"] * 5 + ["Multiplexing Capture"] * 3
LEFT_OUT = "8 of 48 features in .*var are no genes and are left out: 5 Antibody Capture, 3 Multi"


@pytest.fixture
def cite(make_adata, make_counts):
    """Counts of genes, and deep ones of antibodies under the names of the same genes' proteins."""
    genes = make_counts(80, N_GENES)
    others = np.random.default_rng(0).poisson(500, (80, N_OTHERS)).astype(np.float32)
    names = [*(f"FAKE{i}" for i in range(N_GENES)), *(f"ADT{i}" for i in range(N_OTHERS))]
    var = pd.DataFrame({"feature_types": KINDS, "symbol": names}, index=names)
    # As 10x names them: antibodies like the genes.
    var["symbol"] = [name.replace("ADT", "FAKE") for name in names]
    adata = make_adata(sp.csr_matrix(np.hstack([genes, others])), var=var)
    adata.obs_names = [f"cell{i}" for i in range(80)]
    return adata


@pytest.fixture
def rna(cite):
    return cite[:, :N_GENES].copy()


@pytest.mark.parametrize("gene_ids", [None, "symbol"])
def test_an_anndata_gives_its_genes(cite, rna, gene_ids):
    with pytest.warns(UserWarning, match=LEFT_OUT):
        Model.setup_anndata(cite, gene_ids=gene_ids)
    model = Model(cite, d_model=8, n_heads=2, n_top_genes=None, objective="masked")
    assert model.vocabulary.tolist() == rna.var_names.tolist()
    assert model.summary_stats.n_vars == N_GENES
    model.is_trained_ = True
    embedded = model.get_latent_representation(key_added=None)
    rna.var["symbol"] = rna.var_names
    expected = model.get_latent_representation(rna, key_added=None)
    # Antibodies' counts are not in the library size either.
    np.testing.assert_array_equal(embedded, expected)


def test_other_kinds_can_be_named(cite):
    both = ["Gene Expression", "antibody capture"]
    with pytest.warns(UserWarning, match="3 of 48 features .* 3 Multiplexing Capture"):
        Model.setup_anndata(cite, feature_types=both)
    assert len(Model(cite, d_model=8, n_heads=2, objective="masked").vocabulary) == 45
    Model.setup_anndata(cite, feature_types="all")
    assert len(Model(cite, d_model=8, n_heads=2, objective="masked").vocabulary) == 48
    with pytest.raises(
        ValueError, match=r"adata.var has no genes, only 5 Ant.*, 40 Gene Expression, 3"
    ):
        Model.setup_anndata(cite, feature_types="Peaks")
    with pytest.raises(KeyError, match="does not have.*there: symbol"):
        Model.setup_anndata(
            anndata.AnnData(cite.X, cite.obs, cite.var[["symbol"]]), feature_types="Peaks"
        )


def test_a_modality_gives_its_genes(cite, rna):
    mdata = mudata.MuData({"rna": cite})
    with pytest.warns(UserWarning, match=LEFT_OUT):
        Model.setup_mudata(mdata)
    model = Model(mdata, d_model=8, n_heads=2, objective="masked")
    assert model.vocabulary.tolist() == rna.var_names.tolist()


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_a_file_gives_its_genes(tmp_path, cite, rna, suffix):
    path = tmp_path / f"cite.{suffix}"
    cite.write_h5ad(path) if suffix == "h5ad" else cite.write_zarr(path)
    rna.write_h5ad(tmp_path / "rna.h5ad")
    for gene_ids in (None, "symbol"):
        cells = CellFiles([path, tmp_path / "rna.h5ad"], gene_ids=gene_ids, **QUIET)
        assert cells.vocabulary.tolist() == rna.var_names.tolist()
        counts = cells.counts(np.arange(160)).toarray()
        np.testing.assert_array_equal(counts[:80, :-1], rna.X.toarray())
        np.testing.assert_array_equal(counts[:80], counts[80:])
    assert "8 of 48 features in var are no genes" in cells.report.files[0].remarks[0]
    assert [file.n_genes for file in cells.report.files] == [N_GENES, N_GENES]
    del rna.var["feature_types"]
    rna.write_h5ad(tmp_path / "plain.h5ad")
    genes = ["Gene Expression"]
    assert CellFiles([path, tmp_path / "plain.h5ad"], feature_types=genes, **QUIET).n_vars == 40
    with pytest.raises(ValueError, match="needs the column 'feature_types', which no file has"):
        CellFiles([tmp_path / "plain.h5ad"], feature_types=genes, **QUIET)
    named = CellFiles([path], feature_types="all", **QUIET)
    assert named.n_vars == 48
    with pytest.raises(
        CellFilesError, match="var has no genes, only 5 Ant.*, 40 Gene Expression, 3"
    ):
        CellFiles([path], feature_types=["Peaks"], **QUIET)


def test_gene_names_of_a_file_are_those_of_genes(tmp_path, cite, rna):
    cite.write_h5ad(tmp_path / "cite.h5ad")
    with pytest.warns(UserWarning, match=LEFT_OUT):
        names = read_gene_names(tmp_path / "cite.h5ad")
    assert names.tolist() == rna.var_names.tolist()


def test_a_benchmark_reads_genes(cite, rna):
    from scenc.benchmark import EvaluationSet
    from scenc.benchmark.jobs._prepare import prepare_evaluation

    cite.obs["kind"] = "a"
    kept = []
    with pytest.warns(UserWarning, match=LEFT_OUT):
        prepare_evaluation(
            EvaluationSet(cite, label_key="kind"), "cite", lambda _, adata: kept.append(adata)
        )
    np.testing.assert_array_equal(kept[0].X.toarray(), rna.X.toarray())
    assert kept[0].var_names.tolist() == rna.var_names.tolist()


def test_odd_values_of_what_is_no_gene_do_not_matter(cite):
    values = cite.X.toarray()
    values[:, N_GENES:] = np.log1p(values[:, N_GENES:]) - 4
    values[3, N_GENES] = np.nan
    cite.X = sp.csr_matrix(values)
    values[3, :N_GENES] = 0
    cite.X = sp.csr_matrix(values)
    _, names, check = inspect_counts(cite, None, None)
    np.testing.assert_array_equal(check.n_genes, (values[:, :N_GENES] != 0).sum(axis=1))
    assert check.n_genes[3] == check.n_fractional == 0
    assert names[N_GENES:].tolist() == [""] * N_OTHERS


@pytest.mark.parametrize(
    ("kinds", "genes"),
    [
        (["GEX", "ATAC", "ADT"], [True, False, False]),
        (["Gene Expression", None, "Custom"], [True, True, False]),
        # A column that means something else.
        (["protein_coding", "lncRNA", "snoRNA"], None),
        (["Gene Expression"] * 3, None),
    ],
)
def test_kinds(kinds, genes):
    flags, remark = flag_genes(pd.DataFrame({"feature_types": kinds}, dtype=object), None, "var")
    assert (flags if genes is None else flags.tolist()) == genes
    assert (remark is None) == (genes is None)
