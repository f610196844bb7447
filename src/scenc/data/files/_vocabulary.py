"""One list of genes for files that have different ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from scenc.data.tokens import COUNTED, UNKNOWN
from scenc.genes import match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scenc.genes import GeneMatch


def build_vocabulary(
    lists: Sequence[pd.Index[str]], genes: Literal["union", "intersection"]
) -> pd.Index[str]:
    """Bring together the genes of several files, by symbol or by ID.

    The first list is the beginning. Names of the others find their genes in it by
    `scenc.genes.match`; in a union, those without one are added.

    Parameters
    ----------
    lists
        Names of each file's genes.
    genes
        Genes of any file, or of all of them.

    Returns
    -------
    The genes, by their names in the first list that has them.
    """
    first, *others = _distinct(lists) or [pd.Index([], dtype=str)]
    vocabulary = first[first != ""].unique()
    shared = np.ones(len(vocabulary), bool)
    for names in others:
        positions = match(names, vocabulary).positions
        if genes == "union":
            new = (positions < 0) & (names != "")
            vocabulary = vocabulary.append(names[new].unique())
        else:
            shared &= np.isin(np.arange(len(vocabulary)), positions)
    return vocabulary if genes == "union" else vocabulary[shared]


def match_all(
    lists: Sequence[pd.Index[str]], vocabulary: Sequence[str] | pd.Index[str]
) -> list[GeneMatch]:
    """Line each file's genes up with a vocabulary; equal lists are looked at once."""
    matches = {_key(names): match(names, vocabulary) for names in _distinct(lists)}
    return [matches[_key(names)] for names in lists]


def map_genes(
    names: pd.Index[str], found: GeneMatch, counted: Sequence[str] | pd.Index[str]
) -> NDArray[np.int64]:
    """Say of each column of counts: a gene of the vocabulary, counted only, or unknown.

    Parameters
    ----------
    names
        Names of the columns.
    found
        How they match the vocabulary.
    counted
        Further genes, which count in a cell's library size only.

    Returns
    -------
    Vocabulary index of each column, `UNKNOWN` or `COUNTED`: the gene map of `Tokenizer`.
    """
    gene_map = found.positions.astype(np.int64)
    if len(counted):
        others = match(names, pd.Index(counted).astype(str)).positions
        gene_map[(gene_map == UNKNOWN) & (others >= 0)] = COUNTED
    return gene_map


def _distinct(lists: Sequence[pd.Index[str]]) -> list[pd.Index[str]]:
    return list({_key(names): names for names in lists}.values())


def _key(names: pd.Index[str]) -> int:
    return hash(tuple(names))
