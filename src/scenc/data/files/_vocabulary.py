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
    """Bring together the genes of several files, whichever names these use.

    The first list is the beginning. Names of the others find their genes in it by
    `scenc.genes.match`; in a union, those that find none become genes of their own.

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
    vocabulary = first.unique()
    shared = np.ones(len(vocabulary), bool)
    for own in others:
        found = match(own, vocabulary)
        if genes == "union":
            new = (found.positions < 0) & (own != "")
            vocabulary = vocabulary.append(own[new].unique())
        else:
            shared &= np.isin(np.arange(len(vocabulary)), found.positions)
    return vocabulary if genes == "union" else vocabulary[shared]


def match_all(
    lists: Sequence[pd.Index[str]], vocabulary: Sequence[str] | pd.Index[str]
) -> list[GeneMatch]:
    """Line each file's genes up with a vocabulary; equal lists are looked at once."""
    found = {_key(own): match(own, vocabulary) for own in _distinct(lists)}
    return [found[_key(own)] for own in lists]


def map_genes(
    names: pd.Index[str], found: GeneMatch, counted: Sequence[str] | pd.Index[str]
) -> NDArray[np.int64]:
    """Say what each column of counts is: a gene of the vocabulary, counted only, or unknown.

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
    What `Tokenizer` takes as gene map.
    """
    gene_map = found.positions.astype(np.int64)
    if len(counted):
        others = match(names, pd.Index(counted).astype(str)).positions
        gene_map[(gene_map == UNKNOWN) & (others >= 0)] = COUNTED
    return gene_map


def _distinct(lists: Sequence[pd.Index[str]]) -> list[pd.Index[str]]:
    return list({_key(own): own for own in lists}.values())


def _key(names: pd.Index[str]) -> int:
    return hash(tuple(names))
