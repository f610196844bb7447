"""One name is one group of cells, whatever the type of a column; only some may be missing."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from scenc.data import CellFiles, CellFilesError

QUIET = {"progress": False, "validation_size": 0.0}
# Cells 0, 1, 2, ... have the values 1, 2, 1, 2, ...
FORMS = {
    "integer": lambda v: v,
    "text": lambda v: v.astype(str),
    "float": lambda v: v.astype(float),
    "categorical": lambda v: pd.Categorical(v),
    "categorical text": lambda v: pd.Categorical(v.astype(str)),
    "nullable": lambda v: pd.array(v, dtype="Int64"),
}


@pytest.fixture
def write(tmp_path, write_cells):
    def write_columns(name, n_cells=40, **obs):
        write_cells(tmp_path / name, n_cells=n_cells, obs=obs)
        return tmp_path / name

    return write_columns


def test_batches_are_the_same_in_files_of_every_type(write):
    values = 1 + np.arange(40) % 2
    files = [write(f"{name}.h5ad", batch=form(values)) for name, form in FORMS.items()]
    cells = CellFiles(files, batch_key="batch", **QUIET)
    assert cells.column("batch").categories.tolist() == ["1", "2"]
    assert cells.column("batch").tolist() == values.astype(str).tolist() * len(FORMS)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wanted", [1, "1", 1.0, [1], ["1"], np.array([1])], ids=str)
def test_cells_are_chosen_by_names(write, form, wanted):
    file = write("a.h5ad", batch=FORMS[form](1 + np.arange(40) % 2))
    cells = CellFiles([file], only={"batch": wanted}, **QUIET)
    np.testing.assert_array_equal(cells.cells_of("train"), np.arange(0, 40, 2))


@pytest.mark.parametrize("wanted", [True, 1, "True"])
@pytest.mark.parametrize("dtype", ["bool", "boolean"])
def test_cells_are_chosen_by_booleans(write, wanted, dtype):
    file = write("a.h5ad", in_tissue=pd.array(np.arange(40) % 2 == 0, dtype=dtype))
    cells = CellFiles([file], only={"in_tissue": wanted}, **QUIET)
    np.testing.assert_array_equal(cells.cells_of("train"), np.arange(0, 40, 2))


def test_a_column_of_only_that_no_file_has_is_refused(write):
    files = [write("a.h5ad", in_tissue=np.ones(40, int)), write("b.h5ad")]
    with pytest.raises(ValueError, match=r"only names .* 'in_tisue', .*there: .*in_tissue"):
        CellFiles(files, only={"in_tisue": 1}, **QUIET)
    assert CellFiles(files, only={"in_tissue": 1}, **QUIET).split_sizes["train"] == 80


def test_only_that_leaves_no_cell_says_what_there_is(write):
    file = write("a.h5ad", in_tissue=np.arange(40) % 2)
    with pytest.raises(ValueError, match=r"only=.* leaves no cell: obs\['in_tissue'\] holds 0, 1"):
        CellFiles([file], only={"in_tissue": ["yes"]}, **QUIET)


def test_a_misspelt_value_among_others_is_warned_about(write):
    file = write("a.h5ad", organ=np.repeat(["lung", "gut"], 20))
    with pytest.warns(UserWarning, match=r"the value lnug in obs\['organ'\], which holds gut, lun"):
        cells = CellFiles([file], only={"organ": ["lnug", "gut"]}, **QUIET)
    assert cells.split_sizes["train"] == 20


def test_labels_may_be_missing_and_batches_may_not(write):
    values = np.where(np.arange(40) < 3, np.nan, 7.0)
    files = [write("a.h5ad", donor=values), write("b.h5ad", donor=np.full(40, 7))]
    cells = CellFiles(files, labels_key="donor", **QUIET)
    assert cells.column("donor").categories.tolist() == ["7"]
    assert pd.isna(cells.column("donor")[:3]).all()
    with pytest.raises(CellFilesError, match=r"a.h5ad: 3 of 40 cells have no batch.*'donor'.*fill"):
        CellFiles(files, batch_key="donor", **QUIET)
    chosen = CellFiles(files, batch_key="donor", only={"donor": 7}, **QUIET)
    assert chosen.split_sizes["train"] == 77


def test_cells_without_a_unit_of_the_split_are_warned_about(write):
    donor = pd.array([None] * 4 + ["P1"] * 18 + ["P2"] * 18, dtype="string")
    file = write("a.h5ad", donor=donor)
    with pytest.warns(UserWarning, match=r"4 cells have no value in obs\['donor'\].*split by"):
        CellFiles([file], split_by="donor", validation_size=0.3, progress=False)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([1] * 40, r"40 batches for 40 cells: it looks like cells' barcodes"),
        ([35, 3, 2], r"2 of 3 batches in obs\['batch'\] have fewer than 4 cells"),
    ],
)
def test_small_batches_are_warned_about_once(write, sizes, message):
    file = write("a.h5ad", batch=np.repeat(np.arange(len(sizes)), sizes))
    with pytest.warns(UserWarning, match=message) as warned:
        CellFiles([file], batch_key="batch", **QUIET)
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CellFiles([file], batch_key="donor", **QUIET)
