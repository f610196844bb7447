from __future__ import annotations

#: every way a name can be dealt with, strongest first, and how reports call it
RULES = {
    "exact": "same name",
    "ensembl": "Ensembl id",
    "symbol": "current symbol",
    "hgnc": "HGNC id",
    "retired": "retired Ensembl id",
    "previous": "previous symbol",
    "alias": "alias",
    "case": "other capitals",
    "date": "spreadsheet date",
    "unlisted": "Ensembl id not in the table",
    "suffixed": "suffixed copy of a name",
    "ambiguous": "ambiguous",
    "duplicate": "another column has the gene",
    "tied": "columns tied for one gene",
    "unknown": "unknown",
    "unmatched": "not found",
    "unnamed": "without a name",
}

#: rules that lead to a gene of the table
MAPPED = ("ensembl", "symbol", "hgnc", "retired", "previous", "alias", "case", "date")

#: how directly a rule names a gene: of two names for one gene the lower strength counts first
STRENGTH = {
    "exact": 0,
    "ensembl": 1,
    "symbol": 1,
    "hgnc": 1,
    "unlisted": 1,
    "retired": 2,
    "previous": 2,
    "alias": 3,
    "case": 4,
    "date": 5,
}
WEAKEST = 9
