from __future__ import annotations

from uuid import UUID

import pandas as pd

import scenc


def edit_distance(a, b):
    """Wagner and Fischer 1974."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def test_the_paper_names_101_data_sets():
    table = scenc.datasets.pretraining()
    assert table.index.tolist() == list(range(1, 102))
    # The paper's total is 10,010,835; row 86 is printed with 20 cells too many.
    assert table["paper_cells"].sum() == 10_010_855
    assert table["paper_id"].is_unique
    counts = table["status"].value_counts().to_dict()
    assert counts == {"confirmed": 54, "corrected": 27, "unresolved": 20}


def test_ids_are_ids_and_their_distance_to_the_printed_ones_is_as_said():
    table = scenc.datasets.pretraining()
    known = table[table["status"] != "unresolved"]
    assert known["dataset_id"].is_unique
    assert all(str(UUID(name)) == name for name in known["dataset_id"])
    assert table.loc[table["status"] == "unresolved", "dataset_id"].isna().all()
    found = list(map(edit_distance, known["paper_id"], known["dataset_id"]))
    assert found == known["edit_distance"].tolist()
    assert ((known["status"] == "confirmed") == (known["edit_distance"] == 0)).all()


def test_rows_that_are_no_plain_rna_counts_are_named():
    table = scenc.datasets.pretraining()
    assert table.index[table["kind"] == "methylation"].tolist() == [26, 94]
    assert table.index[table["kind"] == "unclear"].tolist() == [76]
    slides = table["kind"] == "slide"
    assert slides.sum() == 28
    assert (slides == (table["paper_cells"] == 4992)).all()
    seen = table.loc[slides, "assay"].dropna()
    assert len(seen) == 12
    assert seen.str.startswith("Visium").all()


def test_the_tables_agree_with_their_sources(shared_folder):
    manifests = shared_folder / "manifests"
    source = pd.read_csv(manifests / "pretraining_datasets.tsv", sep="\t", index_col="row")
    table = scenc.datasets.pretraining()
    for column in ("paper_id", "paper_cells", "status"):
        assert table[column].tolist() == source[column].tolist()
    assert table["dataset_id"].fillna("").tolist() == source["dataset_id"].fillna("").tolist()
    versions = source["h5ad_version_seen"].dropna().str.extract(r"/([0-9a-f-]{36})\.h5ad$")[0]
    pd.testing.assert_series_equal(
        table["version_seen"].dropna(), versions, check_names=False, check_dtype=False
    )

    source = pd.read_csv(manifests / "tabula_sapiens_v2.tsv", sep="\t", index_col="tissue")
    table = scenc.datasets.tissues()
    assert len(table) == 26
    assert table["url"].to_dict() == source["https_url"].to_dict()
    assert table["cellxgene_url"].to_dict() == source["cellxgene_version_h5ad_url"].to_dict()
