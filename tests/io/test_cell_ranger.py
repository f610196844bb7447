"""What Cell Ranger writes, of every version, read as scanpy reads it."""

from __future__ import annotations

import gzip
import shutil
import warnings

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from scipy.io import mmwrite

import scenc
from scenc.data import CellFiles
from scenc.genes import read_gene_names
from scenc.io import read_anndata

N_CELLS, N_GENES = 30, 20
IDS = [f"ENSG{i:011d}" for i in range(N_GENES)]
# One symbol stands twice, one gene has the name of a missing value.
SYMBOLS = ["FAKE1", "NA", *[f"FAKE{i}" for i in range(2, N_GENES - 1)], "FAKE1"]
NAMES = [IDS[0], *SYMBOLS[1:-1], IDS[-1]]
BARCODES = [f"ACGT{i}-1" for i in range(N_CELLS)]
KINDS = ["Gene Expression"] * (N_GENES - 1) + ["Antibody Capture"]


@pytest.fixture(scope="module")
def counts(make_counts):
    return sp.csr_matrix(make_counts(N_CELLS, N_GENES).astype(np.int32))


def write_h5(path, counts, version=3):
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "GRCh38")
        group["barcodes"] = np.array(BARCODES, "S")
        # Genes x cells by columns: the arrays of cells x genes by rows.
        for part in ("data", "indices", "indptr"):
            group[part] = getattr(counts, part)
        group["shape"] = [N_GENES, N_CELLS]
        if version == 3:
            columns = {"id": IDS, "name": SYMBOLS, "feature_type": KINDS, "genome": ["GRCh38"] * 20}
            for name, values in columns.items():
                group[f"features/{name}"] = np.array(values, "S")
        else:
            group["genes"], group["gene_names"] = np.array(IDS, "S"), np.array(SYMBOLS, "S")
    return path


def write_folder(folder, counts, version=3, prefix=""):
    folder.mkdir(parents=True, exist_ok=True)
    mmwrite(folder / f"{prefix}matrix.mtx", counts.T.tocoo())
    genes = "features.tsv" if version == 3 else "genes.tsv"
    more = [f"\t{kind}" for kind in KINDS] if version == 3 else [""] * N_GENES
    lines = [f"{i}\t{s}{m}\n" for i, s, m in zip(IDS, SYMBOLS, more, strict=True)]
    (folder / f"{prefix}{genes}").write_text("".join(lines))
    (folder / f"{prefix}barcodes.tsv").write_text("".join(f"{b}\n" for b in BARCODES))
    if version == 3:
        for path in list(folder.glob(f"{prefix}*")):
            with gzip.open(f"{path}.gz", "wb") as file:
                file.write(path.read_bytes())
            path.unlink()
    return folder


@pytest.fixture(params=["h5", "h5 of version 2", "folder", "folder of version 2", "prefixed"])
def source(request, tmp_path, counts):
    version = 2 if "version 2" in request.param else 3
    if "h5" in request.param:
        return write_h5(tmp_path / "filtered_feature_bc_matrix.h5", counts, version)
    return write_folder(
        tmp_path / "cells", counts, version, "GSM1_" if request.param == "prefixed" else ""
    )


def read_by_scanpy(source):
    with warnings.catch_warnings():
        # Of names that are not unique, and of scipy's and pandas' future.
        warnings.simplefilter("ignore")
        return _read_by_scanpy(source)


def _read_by_scanpy(source):
    if source.is_dir():
        prefix = next(source.glob("*matrix.mtx*")).name.partition("matrix.mtx")[0]
        return sc.read_10x_mtx(source, prefix=prefix, make_unique=False, gex_only=False)
    return sc.read_10x_h5(source, gex_only=False)


def test_it_is_what_scanpy_reads(source, counts):
    adata = read_anndata(source)
    np.testing.assert_array_equal(adata.X.toarray(), counts.toarray())
    assert adata.obs_names.tolist() == BARCODES
    assert adata.var_names.tolist() == NAMES
    expected = read_by_scanpy(source)
    np.testing.assert_array_equal(adata.X.toarray(), expected.X.toarray())
    assert adata.obs_names.tolist() == expected.obs_names.tolist()
    # Of a folder, scanpy takes the gene NA for a missing name.
    symbols = ["NA" if pd.isna(name) else name for name in expected.var_names]
    assert adata.var["gene_symbols"].tolist() == symbols
    for name in expected.var.columns.intersection(["gene_ids", "feature_types", "genome"]):
        assert adata.var[name].tolist() == expected.var[name].tolist()


@pytest.mark.filterwarnings("ignore:.*left out:UserWarning")
def test_every_door_takes_it(source, counts, tmp_path):
    # Version 2 does not say that the last one is an antibody.
    n_genes = N_GENES - ("feature_types" in read_anndata(source).var)
    cells = CellFiles([source], progress=False, validation_size=0.0, genes=NAMES)
    found = cells.counts(np.arange(N_CELLS)).toarray()[:, :N_GENES]
    np.testing.assert_array_equal(found[:, :n_genes], counts.toarray()[:, :n_genes])
    assert not found[:, n_genes:].any()
    assert read_gene_names(source)[:2].tolist() == NAMES[:2]
    assert read_gene_names(source, "gene_ids").tolist() == IDS[:n_genes]
    np.testing.assert_array_equal(scenc.datasets.read_counts(source).X.toarray(), counts.toarray())


@pytest.mark.filterwarnings("ignore:.* have no counts in the model's genes:UserWarning")
@pytest.mark.filterwarnings("ignore:.* lacks .* of 60 genes:UserWarning")
def test_embedding_is_that_of_the_same_cells_in_memory(
    source, make_adata, make_model, train, tmp_path
):
    known = make_adata()
    model = train(make_model(known))
    (path,) = model.embed_files([source], tmp_path / "out", progress=False)
    expected = model.get_latent_representation(read_anndata(source), key_added=None)
    found = anndata.read_h5ad(path)
    assert found.obs_names.tolist() == BARCODES
    np.testing.assert_allclose(found.obsm["X_scenc"], expected, rtol=1e-4, atol=1e-5)


def test_folders_that_are_incomplete_or_not_the_one_are_named(tmp_path, counts):
    outer = tmp_path / "sample"
    inner = write_folder(outer / "outs" / "filtered_feature_bc_matrix", counts)
    with pytest.raises(ValueError, match="name .*filtered_feature_bc_matrix in it"):
        read_anndata(outer)
    with pytest.raises(ValueError, match=r"name the folder it is in"):
        read_anndata(inner / "matrix.mtx.gz")
    (inner / "barcodes.tsv.gz").rename(tmp_path / "b")
    with pytest.raises(ValueError, match=r"no barcodes.tsv"):
        read_anndata(inner)
    (inner / "barcodes.tsv").write_text("A\nB\n")
    with pytest.raises(ValueError, match=r"20 genes x 30 cells, but .* 20 lines and .* 2"):
        read_anndata(inner)
    both = tmp_path / "both"
    for prefix in ("A_", "B_"):
        write_folder(both, counts, prefix=prefix)
    with pytest.raises(ValueError, match="several matrices .* a folder of its own"):
        read_anndata(both)
    path = write_h5(tmp_path / "two.h5", counts, 2)
    with h5py.File(path, "a") as file:
        file.copy("GRCh38", "mm10")
    with pytest.raises(ValueError, match="a matrix for each of GRCh38, mm10"):
        read_anndata(path)


def test_a_folder_that_changes_is_read_anew(tmp_path, counts):
    folder = write_folder(tmp_path / "cells", counts)
    assert read_anndata(folder).X.sum() == counts.sum()
    shutil.rmtree(folder)
    write_folder(folder, counts * 2)
    assert read_anndata(folder).X.sum() == 2 * counts.sum()
