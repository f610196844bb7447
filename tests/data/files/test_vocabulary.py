from __future__ import annotations

import pandas as pd

from scenc.data.files._vocabulary import build_vocabulary, match_all

SYMBOLS = pd.Index(["CD3E", "MS4A1", "INTS11", "OWN1"])
IDS = pd.Index(["ENSG00000127054.24", "ENSG00000198851", "ENSG00000156738", "OWN2"])
OLD = pd.Index(["CPSF3L", "MS4A1", "OWN1"])


def test_the_union_has_each_gene_once_whatever_its_names():
    found = build_vocabulary([SYMBOLS, IDS, OLD], "union")
    assert found.tolist() == ["CD3E", "MS4A1", "INTS11", "OWN1", "OWN2"]


def test_the_intersection_has_the_genes_of_all_files():
    assert build_vocabulary([SYMBOLS, IDS, OLD], "intersection").tolist() == ["MS4A1", "INTS11"]
    assert build_vocabulary([SYMBOLS, SYMBOLS], "intersection").tolist() == SYMBOLS.tolist()
    assert build_vocabulary([SYMBOLS, pd.Index(["GAPDH"])], "intersection").empty


def test_names_that_a_file_tells_apart_stay_apart():
    """The second is an earlier symbol of the first, and here a gene of its own."""
    both = pd.Index(["HNRNPU-AS1", "HNRNPU", "GAPDH"])
    assert build_vocabulary([both], "union").tolist() == both.tolist()
    one = pd.Index(["GAPDH", "ENSG00000153187"])
    for lists in ([both, one], [one, both], [both, one, both]):
        assert len(build_vocabulary(lists, "union")) == 3
    assert set(build_vocabulary([both, one], "intersection")) == {"HNRNPU", "GAPDH"}
    (found, _) = match_all([one, both], build_vocabulary([both, one], "union"))
    assert found.positions.tolist() == [2, 1]


def test_columns_tied_for_one_gene_become_genes_of_their_own():
    tied = pd.Index(["ENSG00000127054", "HGNC:26052", "GAPDH"])
    assert set(match_all([tied], ["INTS11"])[0].tied) == {"INTS11"}
    found = build_vocabulary([pd.Index(["INTS11", "GAPDH"]), tied], "union")
    assert found.tolist() == ["INTS11", "GAPDH", "ENSG00000127054", "HGNC:26052"]


def test_files_are_lined_up_by_gene():
    vocabulary = build_vocabulary([SYMBOLS, IDS, OLD], "union")
    matches = match_all([SYMBOLS, IDS, OLD, SYMBOLS], vocabulary)
    assert [m.positions.tolist() for m in matches] == [
        [0, 1, 2, 3],
        [2, 0, 1, 4],
        [2, 1, 3],
        [0, 1, 2, 3],
    ]
