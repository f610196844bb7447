from __future__ import annotations

import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest

import scenc.genes
from scenc.genes import ProteinEmbeddings, check, read_gene_names


@pytest.fixture
def h5ad(tmp_path):
    var = pd.DataFrame(
        {"gene_id": pd.Categorical(["ENSG00000127054.2", None, "ENSG00000121410"])},
        index=["CPSF3L", "CD4", "A1BG"],
    )
    adata = anndata.AnnData(np.ones((2, 3), dtype=np.float32), var=var)
    adata.write_h5ad(tmp_path / "a.h5ad")
    return tmp_path / "a.h5ad"


def test_names_of_a_file(h5ad, tmp_path):
    assert read_gene_names(h5ad).tolist() == ["CPSF3L", "CD4", "A1BG"]
    ids = ["ENSG00000127054.2", "", "ENSG00000121410"]
    assert read_gene_names(h5ad, "gene_id").tolist() == ids
    with pytest.raises(ValueError, match="no column 'nope' in var; it has gene_id"):
        read_gene_names(h5ad, "nope")
    (tmp_path / "a.txt").write_text("A1BG\nCD4\n")
    assert read_gene_names(tmp_path / "a.txt").tolist() == ["A1BG", "CD4"]
    (tmp_path / "b.h5ad").write_text("no")
    with pytest.raises(ValueError, match=r"no \.h5ad file"):
        read_gene_names(tmp_path / "b.h5ad")
    with pytest.raises(FileNotFoundError, match=r"c\.h5ad"):
        read_gene_names(tmp_path / "c.h5ad")


def test_check(h5ad, tmp_path):
    file = ProteinEmbeddings.from_arrays(["A1BG"], np.ones((1, 2))).save(tmp_path / "p.safetensors")
    report = check(read_gene_names(h5ad), vocabulary=["INTS11", "CD8A"], proteins=file)
    assert report.genes.n_mapped == 3
    assert report.vocabulary.positions.tolist() == [0, -1, -1]
    assert report.proteins.has_vector.tolist() == [False, False, True]
    text = str(report)
    assert text.count("\n\n") == 2
    for title in ("GeneMap: 3", "GeneMatch: 1 of 3", "EmbeddingCoverage: 1 of 3"):
        assert title in text
        assert title in report._repr_html_()
    assert check(["A1BG"]).vocabulary is None
    assert "GeneMap: 1" in repr(check(["A1BG"]))


def test_import_is_light():
    code = (
        "import sys, scenc.genes\n"
        "heavy = {'torch', 'scvi', 'transformers', 'anndata', 'h5py', 'safetensors', 'lightning'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "scenc.genes.harmonize(['CPSF3L'])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_everything_public_is_documented():
    for name in scenc.genes.__all__:
        assert len(getattr(scenc.genes, name).__doc__) > 100, name
