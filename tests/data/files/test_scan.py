"""The same fault is the same problem, in an AnnData and in a file of it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scenc.data.counts import inspect_counts
from scenc.data.files._scan import scan_file


def with_ids(*ids):
    def spoil(adata):
        adata.var["id"] = [*ids, *adata.var_names[len(ids) :]]
        return adata

    return spoil


def with_value(value):
    def spoil(adata):
        adata.X.data[17] = value
        return adata

    return spoil


def logarithms(adata):
    adata.X = sp.csr_matrix(np.log1p(adata.X.toarray() / 3))
    return adata


def no_cells(adata):
    return adata[:0].copy()


def scan(path, adata, gene_ids):
    adata.write_h5ad(path)
    return scan_file(str(path), "X", gene_ids, [], {}, everything=True).problems


def as_of_a_file(text):
    """An AnnData's message with the words for the parts of a file."""
    for part, name in (("adata.var[", "var["), ("adata.var has", "var has")):
        text = text.replace(part, name)
    for part in ("adata.X", "adata"):
        if text.startswith(f"{part} "):
            return "it" + text.removeprefix(part)
    return text


@pytest.mark.parametrize(
    ("spoil", "gene_ids", "n_problems"),
    [
        (with_ids("FAKE1", ""), "id", 1),
        (with_ids("", "FAKE2"), "id", 2),
        (with_ids("FAKE1"), "id", 1),
        (with_ids(), "missing", 1),
        (with_value(-2), None, 1),
        (with_value(np.inf), None, 1),
        (logarithms, None, 1),
        (no_cells, None, 1),
    ],
)
def test_errors_of_an_anndata_are_problems_of_its_file(
    tmp_path, make_adata, spoil, gene_ids, n_problems
):
    adata = make_adata()
    adata.obs_names = [str(i) for i in range(adata.n_obs)]
    adata = spoil(adata)
    with pytest.raises((ValueError, KeyError)) as raised:
        inspect_counts(adata, None, gene_ids)
    problems = scan(tmp_path / "a.h5ad", adata, gene_ids)
    assert as_of_a_file(raised.value.args[0]) == " ".join(problems.errors)
    assert len(problems.errors) == n_problems
    assert not problems.remarks


def test_warnings_of_an_anndata_are_remarks_on_its_file(tmp_path, make_adata, make_counts):
    counts = make_counts()
    counts[5, 3] = 30.5
    adata = make_adata(sp.csr_matrix(counts))
    adata.obs_names = [str(i) for i in range(adata.n_obs)]
    with pytest.warns(UserWarning, match="1 values that are not integers") as warned:
        _, genes, check = inspect_counts(adata, None, None)
    problems = scan(tmp_path / "a.h5ad", adata, None)
    assert problems.remarks == [as_of_a_file(str(warned[0].message))]
    assert not problems.errors
    np.testing.assert_array_equal(check.n_genes, (counts != 0).sum(axis=1))
    assert genes.tolist() == adata.var_names.tolist()
