from __future__ import annotations

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import write_elem

from scenc.io import column_names, count_rows, read_column, read_groups

# anndata says so of files of old versions.
pytestmark = pytest.mark.filterwarnings("ignore:.*was written without encoding metadata")

FRAME = pd.DataFrame(
    {
        "donor": pd.Categorical(["P2", "P1", None, "P2"], categories=["P2", "unused", "P1"]),
        "text": ["b", "a", "b", "c"],
        "integer": [3, 1, 3, 2],
        "float": [1.0, np.nan, 1.0, 2.5],
        "boolean": [True, False, True, True],
        "nullable": pd.array([1, None, 1, 2], dtype="Int64"),
    },
    index=["w", "x", "y", "z"],
)


def as_old(group):
    """Turn a frame into what anndata 0.7 wrote: names of categories stand beside the columns."""
    names = group["donor/categories"][:]
    codes = group["donor/codes"][:]
    del group["donor"]
    del group["nullable"]
    group["donor"] = codes
    group["__categories/donor"] = names
    group["donor"].attrs["categories"] = group["__categories/donor"].ref
    group.attrs["encoding-version"] = "0.1.0"
    group.attrs["column-order"] = [name for name in FRAME if name != "nullable"]


@pytest.fixture(params=["memory", "h5ad", "old h5ad", "zarr"])
def frame(request, tmp_path):
    if request.param == "memory":
        yield FRAME
    elif request.param == "zarr":
        root = zarr.open_group(tmp_path / "frame.zarr", mode="w")
        write_elem(root, "obs", FRAME)
        yield root["obs"]
    else:
        with h5py.File(tmp_path / "frame.h5", "w") as file:
            write_elem(file, "obs", FRAME)
            if request.param == "old h5ad":
                as_old(file["obs"])
            yield file["obs"]


def test_columns_are_those_that_were_written(frame):
    assert set(column_names(frame)) >= set(FRAME) - {"nullable"}
    for name in column_names(frame):
        column = read_column(frame, name, "obs")
        expected = FRAME[name].reset_index(drop=True)
        assert column.index.equals(expected.index)
        assert column.isna().equals(expected.isna())
        assert column.dropna().tolist() == expected.dropna().tolist()
    assert read_column(frame, None, "obs").tolist() == FRAME.index.tolist()


def test_rows_are_counted(frame):
    if not isinstance(frame, pd.DataFrame):
        assert count_rows(frame) == 4


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("donor", ["P2", "P1", None, "P2"]),
        ("text", ["b", "a", "b", "c"]),
        ("integer", ["3", "1", "3", "2"]),
        ("float", ["1", None, "1", "2.5"]),
        ("boolean", ["True", "False", "True", "True"]),
    ],
)
def test_groups_are_known_by_name(frame, column, names):
    groups = read_groups(frame, column, "obs")
    assert [None if pd.isna(name) else name for name in groups] == names
    assert groups.categories.tolist() == sorted(groups.categories)


def test_values_of_one_text_are_one_group():
    groups = read_groups(pd.DataFrame({"batch": [1, "1", "2"]}, dtype=object), "batch", "obs")
    assert groups.tolist() == ["1", "1", "2"]
    assert groups.categories.tolist() == ["1", "2"]


def test_a_missing_column_is_named_with_those_that_are_there(frame):
    with pytest.raises(KeyError, match=r"obs has no column 'dono' \(there: .*donor.*\)"):
        read_column(frame, "dono", "obs")


def test_files_of_old_versions_are_read_as_anndata_reads_them(tmp_path):
    from scenc.data import CellFiles
    from scenc.genes import read_gene_names

    adata = anndata.AnnData(np.ones((4, 4), np.float32), FRAME, FRAME)
    adata.var_names = ["CD4", "CD8A", "MS4A1", "CD3E"]
    path = tmp_path / "old.h5ad"
    adata.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        as_old(file["obs"])
        as_old(file["var"])
    assert anndata.read_h5ad(path).obs["donor"].tolist() == FRAME["donor"].tolist()
    cells = CellFiles([path], labels_key="donor", validation_size=0.0, progress=False)
    assert cells.column("donor").tolist() == FRAME["donor"].tolist()
    assert read_gene_names(path, "donor").tolist() == ["P2", "P1", "", "P2"]


def test_a_frame_in_one_array_is_refused(tmp_path):
    from scenc.data.files._scan import scan_file

    path = tmp_path / "cells.h5ad"
    anndata.AnnData(np.ones((4, 4), np.float32), FRAME).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["var"]
        file["var"] = np.array([(b"CD4",), (b"CD8A",)], dtype=[("index", "S4")])
        with pytest.raises(ValueError, match="var is stored as one array, which cannot be read"):
            read_column(file["var"], None, "var")
    problems = scan_file(str(path), "X", None, [], {}, everything=True).problems
    assert problems.errors[0].startswith("var is stored as one array")
