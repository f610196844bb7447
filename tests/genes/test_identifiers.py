from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scenc.genes import identify, strip_version


@pytest.mark.parametrize(
    ("name", "kind", "stable_id", "version", "species"),
    [
        ("ENSG00000121410", "ensembl", "ENSG00000121410", "", "human"),
        ("ENSG00000121410.12", "ensembl", "ENSG00000121410", "12", "human"),
        ("ensg00000121410.1", "ensembl", "ENSG00000121410", "1", "human"),
        ("ENSG00000182378.15_PAR_Y", "ensembl", "ENSG00000182378_PAR_Y", "15", "human"),
        ("ENSGR0000182378.10", "ensembl", "ENSG00000182378_PAR_Y", "10", "human"),
        ("ENSMUSG00000022347.3", "ensembl", "ENSMUSG00000022347", "3", "mouse"),
        ("ENSDARG00000000001", "ensembl", "ENSDARG00000000001", "", "zebrafish"),
        ("ENSXYZG00000000001", "ensembl", "ENSXYZG00000000001", "", "ENSXYZG"),
        ("ENST00000263100.8", "other_ensembl", "", "", ""),
        ("ENSMUSP00000000001", "other_ensembl", "", "", ""),
        ("HGNC:5", "hgnc", "", "", ""),
        ("7157", "number", "", "", ""),
        ("HLA-DRB1", "symbol", "", "", ""),
        ("RP11-34P13.7", "symbol", "", "", ""),
        ("MT-ND1", "symbol", "", "", ""),
        ("ENSG123", "symbol", "", "", ""),
        ("ENSG000001214101", "symbol", "", "", ""),
        ("", "unnamed", "", "", ""),
        ("  ", "unnamed", "", "", ""),
    ],
)
def test_one_name(name, kind, stable_id, version, species):
    row = identify([name]).iloc[0]
    assert row.tolist() == [name.strip(), kind, stable_id, version, species]


def test_missing_values_and_containers():
    names = pd.Series(["A1BG", None, np.nan, pd.NA], dtype=object)
    assert identify(names)["kind"].tolist() == ["symbol", "unnamed", "unnamed", "unnamed"]
    assert identify(pd.Categorical(["A1BG", "A1BG"]))["kind"].tolist() == ["symbol"] * 2
    assert identify([]).shape == (0, 5)


def test_wrong_types_are_named():
    with pytest.raises(TypeError, match="not one string: 'A1BG'"):
        identify("A1BG")
    with pytest.raises(TypeError, match="7157 is int"):
        identify(["A1BG", 7157])


def test_strip_version_leaves_clone_names_alone():
    names = ["ENSG00000121410.12", "AL627309.1", "ENSG00000182378.15_PAR_Y"]
    assert strip_version(names).tolist() == [
        "ENSG00000121410",
        "AL627309.1",
        "ENSG00000182378_PAR_Y",
    ]
