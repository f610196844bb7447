"""Names as R, Seurat and references of two genomes write them."""

from __future__ import annotations

import numpy as np
import pytest

from scenc.genes import harmonize, identify, match

# Ids and symbols as Ensembl lists them.
SYMBOLS = {
    "HLA-DRA": "ENSG00000204287",
    "MT-CO1": "ENSG00000198804",
    "NKX2-1": "ENSG00000136352",
    "CD4": "ENSG00000010610",
}
SPELLINGS = {
    "dots of R": lambda symbol, _: symbol.replace("-", "."),
    "underscores": lambda symbol, _: symbol.replace("-", "_"),
    "genome": lambda symbol, _: f"GRCh38_{symbol}",
    "padded genome": lambda symbol, _: f"hg19_____{symbol}",
    "genome of Seurat": lambda symbol, _: f"GRCh38-{symbol}",
    "genome of R": lambda symbol, _: f"GRCh38.{symbol.replace('-', '.')}",
    "genome and id": lambda _, stable_id: f"GRCh38_{stable_id}.4",
    "joined": lambda symbol, stable_id: f"{symbol}_{stable_id}",
    "joined the other way": lambda symbol, stable_id: f"{stable_id}.12|{symbol}",
    "joined by a dash": lambda symbol, stable_id: f"{symbol}-{stable_id}",
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_other_spellings_are_the_same_genes(spell):
    names = [spell(symbol, stable_id) for symbol, stable_id in SYMBOLS.items()]
    assert harmonize(names).ensembl_id.tolist() == list(SYMBOLS.values())
    for vocabulary in (list(SYMBOLS), list(SYMBOLS.values())):
        assert match(names, vocabulary).positions.tolist() == [0, 1, 2, 3]
        assert match(vocabulary, names).positions.tolist() == [0, 1, 2, 3]


def test_other_signs_match_in_any_species_and_after_all_else():
    matched = match(["H2.K1", "RP11.34P13.7", "Actb"], ["Actb", "H2-K1", "RP11-34P13.7"])
    assert matched.positions.tolist() == [1, 2, 0]
    assert matched.rule.tolist() == ["signs", "signs", "exact"]
    matched = match(["HLA.DRA", "HLA-DRA"], ["HLA-DRA"])
    assert matched.positions.tolist() == [-1, 0]
    # Which of the two it is cannot be told.
    assert match(["FAKE.1"], ["FAKE-1", "FAKE_1"]).n_matched == 0
    # These are repeated columns of one gene.
    assert match(["FAKE", "FAKE.1"], ["FAKE", "FAKE-1"]).positions.tolist() == [0, -1]


def test_genes_of_two_genomes_stay_apart():
    names = ["GRCh38_ACTB", "GRCh38_CD4", "mm10___Actb", "mm10___Cd4", "mm10___H2-K1"]
    assert identify(names)["species"].tolist() == ["human"] * 2 + ["mouse"] * 3
    genes = harmonize(names)
    assert genes.symbol.tolist() == ["ACTB", "CD4", "", "", ""]
    assert any("5 names have a genome before them" in note for note in genes.notes)
    matched = match(names, ["Cd4", "Actb", "ACTB", "GAPDH"])
    assert matched.positions.tolist() == [2, -1, 1, 0, -1]
    assert matched.rule.tolist() == ["symbol", "unmatched", "genome", "genome", "unmatched"]


@pytest.mark.parametrize(
    "name", ["ENSG00000010610.1-U", "ENSG00000010610-I", "ENSG00000010610_intron",
             "ENSG00000010610-1", "ENSG00000010610_ENSG00000204287"]
)  # fmt: skip
def test_parts_and_copies_of_a_gene_are_not_the_gene(name):
    assert identify([name])["kind"].tolist() == ["symbol"]
    assert harmonize([name]).n_mapped == 0


def test_names_of_real_cells_survive_r(real_cells):
    names = real_cells("pbmc68k").var_names
    assert names.str.contains("-").sum() > 20
    matched = match(names.str.replace("-", "."), names)
    np.testing.assert_array_equal(matched.positions, np.arange(len(names)))
