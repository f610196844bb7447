"""``scenc annotate``, run as a user runs it."""

from __future__ import annotations

import sys

import anndata
import pytest
import scipy.sparse as sp

import scenc
from scenc.cli import main


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process: exit code, output, errors."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["scenc", "annotate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory, trained, make_adata, make_counts):
    """A folder with a saved model, a labelled reference and a query."""
    folder = tmp_path_factory.mktemp("annotate")
    trained.save(folder / "model")
    make_adata().write_h5ad(folder / "reference.h5ad")
    query = make_adata(sp.csr_matrix(make_counts(180)[120:]))
    del query.obs["cell_type"]
    query.obsm["X_other"] = query.X.toarray()[:, :2]
    query.write_h5ad(folder / "query.h5ad")
    return folder


def test_a_reference_then_its_saved_classifier(run, folder, trained):
    model, out = folder / "model", folder / "named.h5ad"
    reference = ["--reference", folder / "reference.h5ad", "--save-classifier"]
    code, printed, err = run(model, folder / "query.h5ad", "--out", out, *reference)
    assert code == 0, err
    assert f"wrote {out}" in printed
    found = anndata.read_h5ad(out)
    query = anndata.read_h5ad(folder / "query.h5ad")
    expected = trained.annotate(query, anndata.read_h5ad(folder / "reference.h5ad"), progress=False)
    assert found.obs["cell_type_pred"].tolist() == expected["cell_type_pred"].tolist()
    assert "X_other" in found.obsm

    again = folder / "again.h5ad"
    code, printed, err = run(model, folder / "query.h5ad", "--out", again, "--majority-voting")
    assert code == 0, err
    second = anndata.read_h5ad(again)
    assert second.obs["cell_type_pred"].tolist() == found.obs["cell_type_pred"].tolist()
    assert "cell_type_majority" in second.obs
    # Counts that the command prints add up to the cells.
    assert sum(int(line.split()[0]) for line in printed.splitlines()[:-1]) == 60

    code, _, err = run(model, folder / "query.h5ad", "--out", out, *reference)
    assert (code, "pass --overwrite" in err) == (1, True)
    code, _, err = run(model, folder / "query.h5ad", "--out", out, *reference, "--overwrite")
    assert code == 0, err
    # The model is as it was.
    scenc.Model.load(model)


def test_mistakes_end_in_one_line(run, folder, tmp_path):
    model, query, out = folder / "model", folder / "query.h5ad", tmp_path / "named.h5ad"
    wrong = [
        ((query, "--labels-key", "kind"), "There is no classifier in"),
        ((query, "--classifier", tmp_path, "--reference", query), "--classifier cannot apply"),
        ((query, "--labels-key", "kind", "--method", "knn"), "--method cannot apply"),
        ((tmp_path / "absent.h5ad",), "There is no file"),
        ((query, "--reference", query), "reference.obs has no column 'cell_type'"),
        ((query, "--reference", query, "--method", "tree"), "--method must be one of"),
    ]
    for arguments, message in wrong:
        code, _, err = run(model, *arguments, "--out", out)
        assert (code != 0, message in err) == (True, True), (arguments, err)
        assert not out.exists()
    code, _, err = run(model, query, "--out", tmp_path / "named.csv")
    assert (code, "give it that ending" in err) == (1, True)
    code, _, err = run(model, query, "--out", query, "--overwrite")
    assert (code, "one of the files to read" in err) == (1, True)
    code, _, err = run(tmp_path, query, "--out", out)
    assert (code, "is no saved scenc model" in err) == (1, True)
