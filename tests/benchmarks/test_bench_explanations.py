import json
import sys

import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp


@pytest.fixture
def bench(script):
    return script("bench_explanations")


def test_genes_are_taken_out_of_a_copy(bench, adata):
    before = adata.X.toarray()
    changed = bench.without_genes(adata, ["FAKE3", "FAKE5"]).X
    expected = before.copy()
    expected[:, [3, 5]] = 0
    np.testing.assert_array_equal(changed.toarray(), expected)
    assert sp.issparse(changed)
    assert (changed.data > 0).all()
    np.testing.assert_array_equal(adata.X.toarray(), before)


def test_lengths_of_loadings(bench, adata):
    found = bench.component_lengths(adata, adata.var_names.tolist(), seed=0)
    logged = bench.log_normalised(adata)
    sc.pp.pca(logged, n_comps=50)
    np.testing.assert_allclose(found, (logged.varm["PCs"] ** 2).sum(axis=1) ** 0.5, rtol=1e-5)


def test_each_part_writes_a_line(bench, make_adata, tmp_path, monkeypatch, capsys):
    make_adata().write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setitem(bench.SETS, "cells", type(bench.SETS["luad"])("cells.h5ad"))
    monkeypatch.setattr(bench, "N_GENES", 5)
    monkeypatch.setattr(bench, "N_TOP", 4)
    out = tmp_path / "out.jsonl"
    command = ["x", str(tmp_path), "--sets", "cells", "--out", str(out)]
    command += ["--models", str(tmp_path / "models")]
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(bench, "fit_scenc", lambda data, key, seed: _fit(bench, data, key, seed))
    # Warnings of cells this few are no matter here, and the script shows none.
    for parts in (["deletions", "attention"], ["attributions", "programmes"]):
        monkeypatch.setattr(sys, "argv", [*command, "--parts", *parts])
        bench.main()
    rows = {row["part"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert list(rows) == ["deletions", "attention", "attributions", "programmes"]
    assert rows["deletions"]["n_cells"] == 120
    assert -1 <= rows["deletions"]["as_components"] <= 1
    assert rows["attributions"]["completeness_error"] < 0.01
    # Genes that the score rests on matter more than others that are expressed alike.
    assert rows["attributions"]["drop"] > rows["attributions"]["drop_matched"]
    assert -1 <= rows["attention"]["with_coexpression"] <= 1
    assert rows["programmes"]["n_programmes"] >= rows["programmes"]["n_passed"]
    assert "deletions" in capsys.readouterr().out


def _fit(bench, adata, batch_key, seed):
    bench.scenc.Model.setup_anndata(adata, batch_key=batch_key)
    model = bench.scenc.Model(adata, seed=seed)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    return model
