"""Build the table of human gene identifiers that ships with scenc.

    python scripts/build_gene_table.py --hgnc hgnc_complete_set.txt.gz --gencode genes.csv.gz \
        --gencode-version "GENCODE v48" --out src/scenc/genes/_table/human.tsv.xz

``--hgnc`` is the tab-separated HGNC complete set. ``--gencode`` is a comma-separated list of the
genes of one GENCODE release without header: Ensembl id, symbol and any further columns (ignored).
The output is one row per gene, with the sources and their dates in its leading comment lines.
The newer of the two sources is taken to be GENCODE: where both name one Ensembl gene differently,
GENCODE's symbol is the current one and HGNC's becomes a previous symbol.
"""

from __future__ import annotations

import argparse
import lzma
import os
from pathlib import Path

import pandas as pd

COLUMNS = ["ensembl_id", "symbol", "hgnc_id", "previous", "alias", "retired"]


def read_hgnc(path: Path) -> pd.DataFrame:
    """Read the approved genes of the HGNC complete set."""
    hgnc = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    hgnc = hgnc[hgnc["status"] == "Approved"].reset_index(drop=True)
    return pd.DataFrame(
        {
            "hgnc_id": hgnc["hgnc_id"],
            "symbol": hgnc["symbol"],
            "ensembl_id": hgnc["ensembl_gene_id"],
            "previous": hgnc["prev_symbol"],
            "alias": hgnc["alias_symbol"],
            "modified": hgnc["date_modified"],
        }
    )


def read_gencode(path: Path) -> pd.DataFrame:
    """Read Ensembl ids and symbols; a gene whose symbol is its own id has none."""
    gencode = pd.read_csv(path, header=None, usecols=[0, 1], dtype=str, keep_default_na=False)
    gencode.columns = ["ensembl_id", "gencode_symbol"]
    stable = gencode["ensembl_id"].str.fullmatch(r"ENSG\d{11}")
    if not stable.all():
        raise ValueError(
            f"{path}: not an Ensembl gene id: {gencode['ensembl_id'][~stable].iloc[0]}"
        )
    unnamed = gencode["ensembl_id"] == gencode["gencode_symbol"]
    gencode.loc[unnamed, "gencode_symbol"] = ""
    return gencode.drop_duplicates("ensembl_id").reset_index(drop=True)


def place_hgnc(hgnc: pd.DataFrame, gencode: pd.DataFrame) -> pd.DataFrame:
    """Give every HGNC gene its Ensembl id in this GENCODE release.

    Adds ``target`` (the Ensembl id, '' for none) and ``retired`` (the id HGNC gave, where GENCODE
    has since moved the symbol to another).
    """
    symbol_of = gencode.set_index("ensembl_id")["gencode_symbol"]
    named = gencode[gencode["gencode_symbol"] != ""]
    sole = named.drop_duplicates("gencode_symbol", keep=False)
    id_of = sole.set_index("gencode_symbol")["ensembl_id"]

    at_id = hgnc["ensembl_id"].map(
        symbol_of
    )  # what GENCODE calls the id HGNC gives; NaN: not in it
    by_symbol = hgnc["symbol"].map(id_of).fillna("")
    elsewhere = (by_symbol != "") & (by_symbol != hgnc["ensembl_id"])
    other_gene = at_id.isin(set(hgnc["symbol"])) & (at_id != hgnc["symbol"])

    target = hgnc["ensembl_id"].where(~elsewhere, by_symbol)
    target = target.where(~other_gene | elsewhere, "")
    gone = elsewhere & at_id.isna() & (hgnc["ensembl_id"] != "")
    return hgnc.assign(target=target, retired=hgnc["ensembl_id"].where(gone, ""))


def merge(hgnc: pd.DataFrame, gencode: pd.DataFrame) -> pd.DataFrame:
    """One row per gene: every GENCODE gene, and the HGNC genes that have no place there."""
    placed = place_hgnc(hgnc, gencode)
    has_id = placed["target"] != ""
    clash = placed.loc[has_id, "target"].duplicated(keep=False)
    if clash.any():
        raise ValueError(f"several HGNC genes at {placed.loc[has_id, 'target'][clash].tolist()}")

    genes = gencode.merge(
        placed[has_id].drop(columns="ensembl_id"),
        left_on="ensembl_id",
        right_on="target",
        how="outer",
    ).fillna("")
    genes["ensembl_id"] = genes["ensembl_id"].where(genes["ensembl_id"] != "", genes["target"])
    renamed = (genes["gencode_symbol"] != "") & (genes["symbol"] != "")
    renamed &= genes["gencode_symbol"] != genes["symbol"]
    joined = (genes["previous"] + "|" + genes["symbol"]).str.strip("|")
    genes["previous"] = genes["previous"].where(~renamed, joined)
    has_gencode = genes["gencode_symbol"] != ""
    genes["symbol"] = genes["symbol"].where(~has_gencode, genes["gencode_symbol"])

    homeless = placed[~has_id].assign(ensembl_id="")
    table = pd.concat([genes[COLUMNS], homeless[COLUMNS]], ignore_index=True)
    for column in ("previous", "alias"):
        table[column] = table[column].str.replace('"', "", regex=False).str.strip()
    return table.sort_values(["ensembl_id", "symbol"], ignore_index=True)


def write(table: pd.DataFrame, metadata: dict[str, str], out: Path) -> None:
    """Write the table reproducibly: the same input gives the same bytes."""
    header = "".join(f"# {key}: {value}\n" for key, value in metadata.items())
    body = table.to_csv(sep="\t", index=False, lineterminator="\n", quoting=3)
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_bytes(lzma.compress((header + body).encode(), preset=9 | lzma.PRESET_EXTREME))
    os.replace(temporary, out)


def main() -> None:
    """Parse the command line and build the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hgnc", type=Path, required=True, help="HGNC complete set (TSV)")
    parser.add_argument("--gencode", type=Path, required=True, help="Ensembl id, symbol (CSV)")
    parser.add_argument("--gencode-version", required=True, help='for example "GENCODE v48"')
    parser.add_argument(
        "--out", type=Path, required=True, help="where to write the table (.tsv.xz)"
    )
    arguments = parser.parse_args()

    hgnc, gencode = read_hgnc(arguments.hgnc), read_gencode(arguments.gencode)
    table = merge(hgnc, gencode)
    metadata = {
        "species": "human",
        "symbols": f"{arguments.gencode_version} (Ensembl ids and gene names)",
        "nomenclature": "HGNC complete set, genenames.org (CC0)",
        "nomenclature_date": hgnc["modified"].max(),
        "genes": str(len(table)),
    }
    write(table, metadata, arguments.out)
    print(f"{arguments.out}: {len(table):,} genes, {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
