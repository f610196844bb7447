"""What becomes of data before jobs see them, and what their fingerprints notice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scenc.benchmark import EvaluationSet, TrainingSet
from scenc.benchmark.jobs._prepare import prepare_evaluation, prepare_training


@pytest.fixture
def kept():
    """What was kept, by fingerprint."""
    return {}


@pytest.fixture
def evaluation(kept):
    def prepare(adata, **arguments):
        given = EvaluationSet(adata, **{"batch_key": "batch", **arguments})
        return prepare_evaluation(given, "mine", kept.__setitem__)

    return prepare


@pytest.fixture
def training(kept):
    def prepare(data, **arguments):
        return prepare_training(TrainingSet(data, **arguments), kept.__setitem__)

    return prepare


def named(make_adata, counts, genes, **obs):
    adata = make_adata(sp.csr_matrix(np.asarray(counts, np.float32)))
    adata.var_names = genes
    for name, values in obs.items():
        adata.obs[name] = values
    return adata


def test_fingerprints_notice_what_matters_and_nothing_else(make_cells, evaluation):
    base = evaluation(make_cells())

    def changed(change):
        adata = make_cells()
        found = evaluation(change(adata) or adata)
        return (found.counts != base.counts, found.content != base.content)

    def one_count(adata):
        adata.X[0, 0] += 1

    def gene_name(adata):
        adata.var_names = ["OTHER", *adata.var_names[1:]]

    def label(adata):
        adata.obs["cell_type"] = np.roll(adata.obs["cell_type"].astype(str), 1)

    def no_label(adata):
        adata.obs["cell_type"] = adata.obs["cell_type"].astype(object)
        adata.obs.iloc[0, adata.obs.columns.get_loc("cell_type")] = None

    def batch(adata):
        adata.obs["batch"] = "one"

    assert changed(one_count) == (True, True)
    assert changed(gene_name) == (True, True)
    assert changed(lambda adata: adata[::-1].copy()) == (True, True)
    for change in (label, no_label, batch):
        assert changed(change) == (False, True)

    def unordered(adata):
        adata.obs["cell_type"] = adata.obs["cell_type"].cat.reorder_categories(
            ["type2", "type0", "type1"]
        )

    def stored_otherwise(adata):
        adata.X = sp.csc_matrix(adata.X)

    def dense(adata):
        adata.X = adata.X.toarray().astype(np.int64)

    def other_things(adata):
        adata.obs["more"] = 1.0
        adata.obs_names = [f"x{i}" for i in range(adata.n_obs)]
        adata.obsm["X_pca"] = np.zeros((adata.n_obs, 2))

    def explicit_zeros(adata):
        adata.X.data[:3] = 0
        base_without = make_cells()
        base_without.X.data[:3] = 0
        base_without.X.eliminate_zeros()
        assert evaluation(base_without).content == evaluation(adata).content

    for change in (unordered, stored_otherwise, dense, other_things):
        assert changed(change) == (False, False), change
    explicit_zeros(make_cells())


def test_files_and_objects_are_the_same(make_cells, evaluation, tmp_path):
    make_cells().write_h5ad(tmp_path / "cells.h5ad")
    assert evaluation(tmp_path / "cells.h5ad").content == evaluation(make_cells()).content


def test_what_is_kept_is_counts_genes_and_groups(make_cells, evaluation, kept):
    adata = make_cells()
    found = evaluation(adata)
    cells = kept[found.content]
    np.testing.assert_array_equal(cells.X.toarray(), adata.X.toarray())
    assert list(cells.var_names) == list(adata.var_names)
    assert list(cells.obs) == ["label", "batch"]
    assert cells.obs["label"].tolist() == adata.obs["cell_type"].tolist()
    assert (found.n_cells, found.n_genes, found.n_batches, found.n_labels) == (60, 40, 2, 3)
    np.testing.assert_array_equal(found.genes_per_cell, (adata.X > 0).sum(axis=1).A1)


def test_layers_and_raw(make_cells, evaluation, kept):
    adata = make_cells()
    adata.layers["counts"] = adata.X.copy()
    adata.raw = adata.copy()
    expected = evaluation(make_cells()).content
    adata.X = sp.csr_matrix(np.log1p(adata.X.toarray() / 3))
    assert evaluation(adata, layer="counts").content == expected
    fewer = adata[:, :10].copy()
    assert evaluation(fewer, layer="raw").content == expected
    assert evaluation(make_cells(), layer="raw").content == expected
    with pytest.raises(ValueError, match=r"evaluation set 'mine'.*log-normalised"):
        evaluation(adata)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_key": "celltype"}, "the label key must be one of .*Did you mean 'cell_type'"),
        ({"batch_key": "bach"}, "the batch key must be one of .*Did you mean 'batch'"),
        ({"layer": "count"}, "adata.layers has no 'count'"),
        ({"gene_ids": "ensembl"}, "adata.var has no column 'ensembl'"),
        ({"label_key": "empty"}, "holds no label"),
    ],
)
def test_mistakes_are_named_with_the_set(make_cells, evaluation, arguments, message):
    adata = make_cells()
    adata.obs["empty"] = None
    with pytest.raises(ValueError, match=rf"evaluation set 'mine' \(AnnData 1\): .*{message}"):
        evaluation(adata, **arguments)


def test_files_that_are_none_are_named(evaluation, training, tmp_path):
    (tmp_path / "bad.h5ad").write_bytes(b"not hdf5")
    with pytest.raises(ValueError, match=r"training data bad.h5ad: .*cannot be read"):
        training([tmp_path / "bad.h5ad"])
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere.h5ad"):
        evaluation(tmp_path / "nowhere.h5ad")
    with pytest.raises(TypeError, match="is a DataFrame; give an AnnData"):
        training([pd.DataFrame()])


def test_several_files_become_the_union_of_their_genes(make_adata, training, kept):
    # CPSF3L is an earlier symbol of INTS11; both name ENSG00000127054.
    one = named(make_adata, [[1, 0, 2], [0, 3, 0]], ["CD4", "CPSF3L", "mystery"])
    two = named(make_adata, [[5, 6], [0, 7]], ["ENSG00000127054.24", "CD8A"])
    found = training([one, two])
    cells = kept[found.content]
    table = pd.DataFrame(cells.X.toarray(), columns=cells.var_names)
    assert set(table) == {"ENSG00000010610", "ENSG00000127054", "ENSG00000153563", "mystery"}
    assert table["ENSG00000127054"].tolist() == [0, 3, 5, 0]
    assert table["ENSG00000010610"].tolist() == [1, 0, 0, 0]
    assert table["ENSG00000153563"].tolist() == [0, 0, 6, 7]
    assert table["mystery"].tolist() == [2, 0, 0, 0]
    assert cells.obs["batch"].tolist() == ["AnnData 1"] * 2 + ["AnnData 2"] * 2
    assert cells.X.sum() == one.X.sum() + two.X.sum()


def test_columns_that_mean_one_gene_are_added_up(make_adata, training, kept):
    one = named(make_adata, [[1, 10, 2]], ["INTS11", "CPSF3L", "CD4"])
    two = named(make_adata, [[4.0]], ["CD4"])
    found = training([one, two], batch_key="batch")
    cells = kept[found.content]
    table = pd.DataFrame(cells.X.toarray(), columns=cells.var_names)
    assert table["ENSG00000127054"].tolist() == [11, 0]
    assert table["ENSG00000010610"].tolist() == [2, 4]
    assert cells.obs["batch"].tolist() == ["AnnData 1: donor0", "AnnData 2: donor0"]


def test_a_single_file_keeps_its_names(make_cells, training, kept):
    found = training(make_cells())
    assert list(kept[found.content].var_names) == list(make_cells().var_names)
    assert "batch" not in kept[found.content].obs


@pytest.mark.parametrize("source", ["shipped", pytest.param("shared", marks=pytest.mark.shared)])
def test_real_files_join(source, request, training, kept):
    import anndata

    if source == "shipped":
        files = request.getfixturevalue("shipped_files")
    else:
        names = ("baron16_human_pancreas_175cells", "dlpfc_2donors_500cells")
        folder = request.getfixturevalue("shared_data")
        files = [folder / f"{name}.h5ad" for name in names]
    parts = [anndata.read_h5ad(path) for path in files]
    found = training(files, batch_key="batch")
    cells = kept[found.content]
    assert found.n_cells == len(cells) == sum(part.n_obs for part in parts)
    assert cells.X.sum() == sum(part.X.sum() for part in parts)
    np.testing.assert_array_equal(
        np.sort(cells.X[: parts[0].n_obs].sum(axis=1).A1), np.sort(parts[0].X.sum(axis=1).A1)
    )
    ids = {i for part in parts for i in part.var["ensembl_id"] if i}
    assert len(ids & set(cells.var_names)) > 0.9 * len(ids)
    assert found.n_batches == 6
