from __future__ import annotations

import re

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenc.genes import ensembl_to_symbol, harmonize, symbol_to_ensembl
from scenc.genes._gene_table import human_table


@pytest.mark.parametrize(
    ("name", "rule", "symbol", "canonical"),
    [
        ("ENSG00000127054.24", "ensembl", "INTS11", "ENSG00000127054"),
        ("INTS11", "symbol", "INTS11", "ENSG00000127054"),
        ("HGNC:5", "hgnc", "A1BG", "ENSG00000121410"),
        ("hgnc:5", "hgnc", "A1BG", "ENSG00000121410"),
        ("CPSF3L", "previous", "INTS11", "ENSG00000127054"),
        ("C1orf112", "previous", "FIRRM", "ENSG00000000460"),  # renamed after the HGNC table
        ("MARCH1", "previous", "MARCHF1", "ENSG00000145416"),
        ("SEP15", "alias", "SELENOF", "ENSG00000183291"),
        ("p53", "alias", "TP53", "ENSG00000141510"),
        ("C1ORF112", "case", "FIRRM", "ENSG00000000460"),
        ("3-Mar", "date", "MARCHF3", "ENSG00000173926"),
        ("Sep-02", "date", "SEPTIN2", "ENSG00000168385"),
        ("ENSG00000184258", "retired", "CDR1", "ENSG00000288642"),
        ("1-Mar", "ambiguous", "", "1-Mar"),  # MARCH1 or MARC1
        ("QARS", "ambiguous", "", "QARS"),
        ("Y_RNA", "ambiguous", "", "Y_RNA"),
        ("ENSG99999999999.3", "unlisted", "", "ENSG99999999999"),
        ("ENSMUSG00000022347.3", "unlisted", "", "ENSMUSG00000022347"),
        ("RP11-34P13.7", "unknown", "", "RP11-34P13.7"),
        ("FOO-1", "unknown", "", "FOO-1"),
        ("", "unnamed", "", ""),
    ],
)
def test_one_name(name, rule, symbol, canonical):
    genes = harmonize([name, "CD4", "CD8A", "HLA-DRB1", "MT-ND1"])
    assert (genes.rule[0], genes.symbol[0], genes.canonical[0]) == (rule, symbol, canonical)
    assert genes.rule[1:].tolist() == ["symbol"] * 4
    assert genes.duplicated == {}


def test_both_ways():
    ids = ["ENSG00000121410", "ENSG00000127054"]
    assert symbol_to_ensembl(["A1BG", "CPSF3L"]).tolist() == ids
    assert ensembl_to_symbol(ids).tolist() == ["A1BG", "INTS11"]
    with pytest.raises(ValueError, match="to='entrez'"):
        harmonize(["A1BG"], to="entrez")


def test_every_symbol_in_use_leads_back_to_its_gene():
    table = human_table()
    ids = table.ensembl_id[table.ensembl_id != ""]
    to_symbol = harmonize(ids).mapped
    assert len(set(to_symbol)) == len(ids)  # genes sharing a symbol keep their ids
    assert symbol_to_ensembl(to_symbol).tolist() == ids.tolist()


def test_ambiguous_names_list_their_genes():
    genes = harmonize(["QARS", "CD4", "1-Mar"])
    assert genes.ambiguous == {"QARS": ("EPRS1", "QARS1"), "1-Mar": ("MARCHF1", "MTARC1")}
    assert genes.mapped[0] == "QARS"


def test_duplicates_are_reported_and_never_merged():
    genes = harmonize(["CPSF3L", "INTS11", "ENSG00000127054.2", "CD4", "X", "X", None, ""])
    assert genes.duplicated == {
        "ENSG00000127054": ("CPSF3L", "INTS11", "ENSG00000127054.2"),
        "X": ("X", "X"),
    }
    assert len(genes) == 8
    assert genes.mapped.tolist()[0] == "CPSF3L"  # the weaker name stays, and stays distinct


def test_suffixed_copies():
    names = ["INTS11", "INTS11-1", "PNRC2", "PNRC2.1", "U6", "U6-1", "HLA-DRB1", "RP11-34P13.7"]
    genes = harmonize(names)
    assert genes.suffixed == ("INTS11-1", "PNRC2.1", "U6-1")
    assert genes.mapped.tolist()[1] == "INTS11-1"
    assert genes.duplicated["ENSG00000127054"] == ("INTS11", "INTS11-1")
    assert harmonize(["U6-1", "CD4"]).rule[0] == "alias"  # without U6 beside it, RNU6-1


def test_pseudoautosomal_copies_stay_apart():
    genes = harmonize(["ENSG00000182378.15", "ENSG00000182378.15_PAR_Y", "ENSGR0000182378"])
    assert genes.symbol.tolist() == ["PLCXD1", "PLCXD1_PAR_Y", "PLCXD1_PAR_Y"]
    assert genes.canonical[0] != genes.canonical[1] == genes.canonical[2]


@pytest.mark.parametrize(
    "names",
    [
        ["Actb", "Cd4", "Gapdh", "Xkr4", "C3"],
        ["actb1", "cd4-1", "gapdh"],
        ["ENSMUSG00000022347", "ENSMUSG00000051951", "ACTB"],
    ],
)
def test_other_species_do_not_turn_human(names):
    genes = harmonize(names)
    assert genes.n_mapped == 0
    assert genes.mapped.tolist() == names
    assert genes.species != "human"
    assert "symbols were not mapped" in genes.notes[0]
    assert genes.notes[0] in str(genes)


def test_species_can_be_told():
    assert harmonize(["Actb", "Cd4"], species="human").mapped.tolist() == ["ACTB", "CD4"]
    assert harmonize(["ACTB", "CD4"], species="rat").n_mapped == 0
    mixed = harmonize(["CD4", "CD8A", "Actb"])
    assert mixed.rule.tolist() == ["symbol", "symbol", "unknown"]
    assert harmonize(["Actb", "ENSG00000121410"]).mapped.tolist() == ["Actb", "A1BG"]


def test_transcripts_and_numbers_are_pointed_out():
    genes = harmonize(["ENST00000263100.8", "7157", "CD4"])
    assert genes.rule.tolist() == ["unknown", "unknown", "symbol"]
    assert "1 names are Ensembl ids of transcripts" in genes.notes[0]
    assert "1 names are numbers" in genes.notes[1]


@pytest.mark.parametrize("name", ["{}", "{}-1", "s1_{}-1", "{}-1-donor2", "GSM1:{}x"])
def test_barcodes_of_cells_are_no_names_of_genes(name):
    rng = np.random.default_rng(0)
    names = [name.format("".join(rng.choice([*"ACGT"], 16))) for _ in range(6)]
    if name.endswith("x"):  # velocyto's own way
        names = [text.removesuffix("x") for text in names]
    (caution,) = harmonize([*names, "CD4"]).cautions
    assert "6 of 7 genes are named like barcodes of cells" in caution
    assert "adata.T" in caution
    assert not harmonize(["CAT", "TAC1", "GATA1", "ACTG1", "ACAT2", "TTC4", "CD4"]).cautions


def test_report():
    genes = harmonize(["CPSF3L", "INTS11", "QARS", "<b>", ""])
    assert genes.counts == {"symbol": 1, "previous": 1, "ambiguous": 1, "unknown": 1, "unnamed": 1}
    assert sum(genes.counts.values()) == len(genes)
    assert genes.n_mapped == 2
    assert genes.unknown == ("<b>",)
    text = str(genes)
    assert text.splitlines()[0] == "GeneMap: 5 names to current symbols, 2 mapped (human)"
    assert "QARS: EPRS1 or QARS1" in text
    assert repr(genes) == "<GeneMap: 5 names to current symbols, 2 mapped (human)>"
    assert "&lt;b&gt;" in genes._repr_html_()
    assert "<b>" not in genes._repr_html_()
    frame = genes.to_frame()
    assert frame["rule"].tolist() == genes.rule.tolist()
    assert not genes.canonical.flags.writeable


@pytest.mark.parametrize("names", [["CPSF3L", "INTS11", "QARS", "x", ""], ["CD4"], []])
def test_uns_can_be_written(names, tmp_path):
    adata = anndata.AnnData(np.ones((1, 1), dtype=np.float32))
    adata.uns["scenc_genes"] = harmonize(names).to_uns()
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = anndata.read_h5ad(tmp_path / "a.h5ad").uns["scenc_genes"]
    assert back["n"] == len(names)
    assert back["counts"] == harmonize(names).counts
    assert "GENCODE" in back["table"]


def test_a_large_vocabulary_is_mapped_whole():
    names = human_table().ensembl_id[-60_000:]
    assert harmonize(names).counts == {"ensembl": 60_000}


@pytest.fixture(scope="module")
def clean():
    """A thousand genes with one clean symbol and every other way to write each."""
    genes = human_table().genes
    both = genes[(genes["ensembl_id"] != "") & (genes["hgnc_id"] != "")]
    both = both[both["previous"] != ""].head(1000)
    unique = harmonize(both["symbol"]).canonical == both["ensembl_id"].to_numpy()
    return both[unique].reset_index(drop=True)


@settings(max_examples=30)
@given(data=st.data())
def test_any_way_to_write_a_gene_gives_the_same_key(data, clean):
    size = data.draw(st.integers(5, 60))
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(clean), size, replace=False)
    picked = clean.iloc[rows]
    ways = [
        picked["symbol"],
        picked["ensembl_id"],
        picked["ensembl_id"] + "." + pd.Series(rng.integers(1, 30, size), picked.index).astype(str),
        picked["hgnc_id"],
        " " + picked["symbol"],
    ]
    chosen = rng.integers(len(ways), size=size)
    names = [ways[way].iloc[i] for i, way in enumerate(chosen)]
    names += [f"MADE UP {i}" for i in range(rng.integers(0, 5))]
    genes = harmonize(names)
    assert genes.canonical[:size].tolist() == picked["ensembl_id"].tolist()
    assert genes.symbol[:size].tolist() == picked["symbol"].tolist()
    assert genes.mapped[size:].tolist() == names[size:]
    order = rng.permutation(len(names))
    again = harmonize([names[i] for i in order])
    assert again.canonical.tolist() == genes.canonical[order].tolist()
    assert harmonize(genes.mapped).mapped.tolist() == genes.mapped.tolist()


def test_real_symbols_that_were_renamed_and_those_that_name_no_gene(real_cells):
    genes = harmonize(real_cells("pbmc68k").var_names)
    current = dict(zip(genes.names, genes.symbol, strict=True))
    renamed = {"ATPIF1": "ATP5IF1", "IGJ": "JCHAIN", "FYB": "FYB1", "SEPT9": "SEPTIN9",
               "C10orf54": "VSIR", "HIST1H1E": "H1-4", "CARS": "CARS1", "AES": "TLE5"}  # fmt: skip
    assert {name: current[name] for name in renamed} == renamed
    # Clones, and a symbol that scanpy made unique.
    unknown = {name for name in genes.names if not current[name]}
    assert "TMBIM4-1" in unknown
    clones = unknown - {"TMBIM4-1"}
    assert len(clones) == 11
    assert all(re.fullmatch(r"(RP\d+-|CTD-|A[CL]).+\.\d+", name) for name in clones)


SHARED = pytest.mark.shared


@pytest.mark.parametrize(
    ("name", "current", "mapped"),
    [
        ("pbmc68k", 700, 753),
        pytest.param("kang18_ctrl_8donors_1287genes", 1277, 1277, marks=SHARED),
        pytest.param("baron16_human_pancreas_175cells", 10703, 11128, marks=SHARED),
        pytest.param("pbmc3k", 12861, 13982, marks=SHARED),
    ],
)
def test_real_data(real_cells, name, current, mapped):
    var = real_cells(name).var
    genes = harmonize(var.index)
    assert genes.counts["symbol"] == current
    assert genes.n_mapped == mapped
    if "ensembl_id" not in var:
        return
    ids = harmonize(var["ensembl_id"].astype(str), "ensembl")
    both = np.isin(ids.rule.astype(str), ["ensembl"]) & (genes.ensembl_id != "")
    agree = ids.canonical[both] == genes.canonical[both]
    assert agree.mean() > 0.99
