"""One list of genes for files that have different ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from scenc.data.counts import LEAST_SHARED
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


@dataclass(frozen=True, slots=True)
class SharedGenes:
    """How many genes files share; an array of one entry per file each.

    Attributes
    ----------
    belongs
        Whether it belongs to the files that share genes: the largest group in which each shares a
        tenth of the shorter of two lists with another.
    n_own, n_others
        Number of its genes, and of those that the other files of the group have.
    n_shared
        Number of those in both.
    """

    belongs: NDArray[np.bool_]
    n_own: NDArray[np.int64]
    n_others: NDArray[np.int64]
    n_shared: NDArray[np.int64]


def count_shared(matches: Sequence[GeneMatch]) -> SharedGenes:
    """Count the genes that files share, by their matches with one vocabulary."""
    rows = [np.unique(found.positions[found.positions >= 0]) for found in matches]
    sizes = np.array([len(row) for row in rows])
    measured = sp.csr_array(
        (np.ones(sizes.sum(), np.float32), np.concatenate(rows), np.append(0, np.cumsum(sizes))),
        (len(rows), len(matches[0].vocabulary)),
    )
    overlap = (measured @ measured.T).toarray()
    alike = overlap >= LEAST_SHARED * np.minimum.outer(sizes, sizes)
    groups = connected_components(alike, directed=False)[1]
    belongs = groups == np.argmax(np.bincount(groups))
    n_files = np.asarray(measured[belongs].sum(axis=0)).ravel()
    # A gene of a file of the group is shared if two of them have it.
    several, some = (n_files > 1).astype(np.float32), (n_files > 0).astype(np.float32)
    shared = np.where(belongs, measured @ several, measured @ some).astype(np.int64)
    n_others = np.where(belongs, some.sum() - sizes + shared, some.sum()).astype(np.int64)
    return SharedGenes(belongs, sizes, n_others, shared)


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

    Examples
    --------
    >>> names = pd.Index(["CD4", "CPSF3L", "XIST", "unheard of"])
    >>> found = scenc.genes.match(names, ["INTS11", "CD4"])
    >>> scenc.data.map_genes(names, found, counted=["XIST"]).tolist()
    [1, 0, -2, -1]
    >>> scenc.data.COUNTED, scenc.data.UNKNOWN
    (-2, -1)
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
