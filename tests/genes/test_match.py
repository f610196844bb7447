from __future__ import annotations

import anndata
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scenc.genes._harmonize as harmonizing
from scenc.genes import match
from scenc.genes._gene_table import human_table


def test_equal_names_need_no_table(monkeypatch):
    def refuse():
        raise AssertionError("the table was loaded")

    monkeypatch.setattr(harmonizing, "human_table", refuse)
    found = match(["b", "a"], ["a", "b", "c"])
    assert found.positions.dtype == np.int32
    assert found.positions.tolist() == [1, 0]
    assert found.missing == ("c",)
    assert found.coverage == pytest.approx(2 / 3)
    with pytest.raises(AssertionError, match="the table was loaded"):
        match(["b", "z"], ["a", "b"])


def test_identifiers_of_all_kinds():
    vocabulary = ["INTS11", "MARCH1", "ENSG00000010610.5", "Xkr4", "ENSMUSG00000022347"]
    query = ["ENSG00000127054.24", "ENSG00000145416", "CD4", "Xkr4", "ENSMUSG00000022347.3", "q"]
    found = match(query, vocabulary, species="human")
    assert found.positions.tolist() == [0, 1, 2, 3, 4, -1]
    assert found.rule.tolist() == [
        *("ensembl", "previous", "symbol", "exact", "unlisted", "unmatched"),
    ]
    assert found.n_matched == 5
    assert found.unmatched == ("q",)
    assert sum(found.counts.values()) == len(query)


def test_an_exact_name_wins_over_an_alias():
    found = match(["CPSF3L", "INTS11"], ["INTS11"])
    assert found.positions.tolist() == [-1, 0]
    assert found.rule.tolist() == ["duplicate", "exact"]
    assert found.duplicated == {"INTS11": ("INTS11", "CPSF3L")}
    assert found.tied == {}
    by_id = match(["CPSF3L", "INTS11"], ["ENSG00000127054"])
    assert by_id.positions.tolist() == [-1, 0]


def test_a_tie_is_never_guessed():
    found = match(["A", "A", "B"], ["A", "B"])
    assert found.positions.tolist() == [-1, -1, 1]
    assert found.rule.tolist() == ["tied", "tied", "exact"]
    assert found.tied == {"A": ("A", "A")}
    assert found.missing == ("A",)
    everything = match(["A", "A", "B"], ["A", "B"], duplicates="all")
    assert everything.positions.tolist() == [0, 0, 1]
    assert everything.duplicated == {"A": ("A", "A")}
    with pytest.raises(ValueError, match="for example A: A, A"):
        match(["A", "A", "B"], ["A", "B"], duplicates="error")
    with pytest.raises(ValueError, match="duplicates='sum'"):
        match(["A"], ["A"], duplicates="sum")


def test_a_tie_below_an_exact_name_changes_nothing():
    found = match(["INTS11", "CPSF3L", "CPSF3L"], ["INTS11"])
    assert found.positions.tolist() == [0, -1, -1]
    assert found.tied == {}


def test_a_vocabulary_with_two_names_of_one_gene():
    vocabulary = ["CPSF3L", "INTS11"]
    assert match(["ENSG00000127054"], vocabulary).positions.tolist() == [1]
    assert match(["CPSF3L", "INTS11"], vocabulary).positions.tolist() == [0, 1]
    equal = match(["CPSF3L"], ["INTS11", "ENSG00000127054"])
    assert equal.positions.tolist() == [-1]


def test_ambiguous_names_match_themselves_only():
    assert match(["QARS"], ["EPRS1", "QARS1"]).positions.tolist() == [-1]
    assert match(["EPRS1", "QARS1", "QARS"], ["QARS"]).positions.tolist() == [-1, -1, 0]


def test_mouse_does_not_match_human():
    found = match(["Actb", "Cd4", "Gapdh"], ["ACTB", "CD4", "GAPDH"])
    assert found.n_matched == 0
    assert "lower case" in found.notes[0]
    assert "lower case" in str(found)


def test_missing_names_match_nothing():
    found = match(["", None, "CD4"], ["CD4", "CD8A"])
    assert found.rule.tolist() == ["unnamed", "unnamed", "exact"]


def test_the_vocabulary_must_be_sound():
    with pytest.raises(ValueError, match="'A' more than once"):
        match(["A"], ["A", "A"])
    with pytest.raises(ValueError, match="empty name"):
        match(["A"], ["A", ""])
    with pytest.raises(TypeError, match="vocabulary must be strings, but 5 is int"):
        match(["A"], ["A", 5])
    assert match([], ["A"]).coverage == 0
    assert match(["A"], []).coverage == 0


def test_report_and_uns(tmp_path):
    found = match(["CPSF3L", "INTS11", "<x>"], ["INTS11", "CD4"])
    lines = str(found).splitlines()
    assert lines[0] == "GeneMatch: 1 of 3 columns used, 50.0 % of 2 vocabulary genes covered"
    assert "note: 1 vocabulary genes have no column (CD4)" in str(found)
    assert "INTS11: INTS11, CPSF3L" in str(found)
    assert "&lt;x&gt;" in found._repr_html_()
    assert repr(found) == f"<{lines[0]}>"
    assert found.to_frame()["gene"].tolist() == ["", "INTS11", ""]
    adata = anndata.AnnData(np.ones((1, 1), dtype=np.float32), uns={"match": found.to_uns()})
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert anndata.read_h5ad(tmp_path / "a.h5ad").uns["match"]["counts"] == found.counts


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 80))
def test_rewriting_the_query_changes_no_position(seed, size):
    genes = human_table().genes
    genes = genes[(genes["ensembl_id"] != "") & (genes["hgnc_id"] != "")]
    rng = np.random.default_rng(seed)
    picked = genes.iloc[rng.choice(len(genes), size, replace=False)]
    symbols, ids = picked["symbol"].to_numpy(object), picked["ensembl_id"].to_numpy(object)
    vocabulary = np.where(rng.random(size) < 0.5, symbols, ids)
    keep = rng.permutation(size)[: rng.integers(1, size + 1)]
    versioned = np.array([f"{name}.{rng.integers(1, 20)}" for name in ids[keep]], dtype=object)
    query = np.where(rng.random(len(keep)) < 0.5, symbols[keep], versioned)
    query = [*query, *(f"MADE UP {i}" for i in range(rng.integers(0, 4)))]
    found = match(query, vocabulary)
    assert found.positions.tolist() == [*keep.tolist(), *[-1] * (len(query) - len(keep))]
    order = rng.permutation(len(query))
    again = match([query[i] for i in order], vocabulary)
    assert again.positions.tolist() == found.positions[order].tolist()


def test_ids_and_current_symbols_find_the_old_ones_of_real_data(real_cells):
    symbols = real_cells("pbmc68k").var_names
    genes = {
        "CD79A": ("CD79A", "ENSG00000105369"),
        "NKG7": ("NKG7", "ENSG00000105374"),
        "ATPIF1": ("ATP5IF1", "ENSG00000130770"),
        "SELT": ("SELENOT", "ENSG00000198843"),
        "H1FX": ("H1-10", "ENSG00000184897"),
        "SEPT7": ("SEPTIN7", "ENSG00000122545"),
    }
    for names in zip(*genes.values(), strict=True):
        assert symbols[match(names, symbols).positions].tolist() == list(genes)


@pytest.mark.parametrize(
    "source",
    ["table", pytest.param("kang18_ctrl_stim_2000cells_9015genes", marks=pytest.mark.shared)],
)
def test_real_symbols_and_ids_meet(source, real_cells):
    if source == "table":
        symbols = real_cells("pbmc68k").var_names
        other = human_table().genes.drop_duplicates("symbol").set_index("symbol")
    else:
        symbols = real_cells("pbmc_7batches_harmonised").var_names
        other = real_cells(source).var
    ids = other["ensembl_id"].astype(str)
    plain, mapped = np.isin(other.index, symbols).sum(), match(other.index, symbols)
    assert mapped.n_matched > plain
    both = np.flatnonzero((mapped.positions >= 0) & (ids != "").to_numpy())
    by_id = match(ids.iloc[both], symbols, duplicates="all")
    agree = by_id.positions == mapped.positions[both]
    assert agree.mean() > 0.999
