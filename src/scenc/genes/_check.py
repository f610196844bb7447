from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scenc._paths import is_address, require_files
from scenc.genes._features import flag_genes
from scenc.genes._harmonize import harmonize
from scenc.genes._identifiers import as_names
from scenc.genes._match import GeneMatch, match
from scenc.genes._protein_embeddings import ProteinEmbeddings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scenc.genes._alignment import EmbeddingCoverage
    from scenc.genes._gene_map import GeneMap
    from scenc.genes._identifiers import Names


@dataclass(frozen=True, eq=False, repr=False)
class GeneCheck:
    """Reports on the genes of a data set; made by `check`.

    Parameters
    ----------
    genes
        Current names and ids of the genes.
    vocabulary
        Match of the names with a model's vocabulary, if one was given.
    proteins
        Coverage of the genes by protein vectors, if a file was given.

    Examples
    --------
    >>> found = scenc.genes.check(["CPSF3L", "CD4"], vocabulary=["INTS11"])
    >>> found.genes.mapped.tolist(), found.vocabulary.n_matched
    (['INTS11', 'CD4'], 1)
    """

    genes: GeneMap
    vocabulary: GeneMatch | None = None
    proteins: EmbeddingCoverage | None = None

    def __repr__(self) -> str:
        return f"<GeneCheck of {self.genes!r}>"

    def __str__(self) -> str:
        parts = (self.genes, self.vocabulary, self.proteins)
        return "\n\n".join(str(part) for part in parts if part is not None)

    def _repr_html_(self) -> str:
        parts = (self.genes, self.vocabulary, self.proteins)
        return "".join(part._repr_html_() for part in parts if part is not None)


def check(
    names: Iterable[object],
    *,
    vocabulary: Iterable[object] | None = None,
    proteins: ProteinEmbeddings | str | Path | None = None,
    species: str = "auto",
) -> GeneCheck:
    """Report on gene names, and on how much of a model or a protein file they cover.

    Parameters
    ----------
    names
        Gene names, for example from `read_gene_names`.
    vocabulary
        Gene names of a model.
    proteins
        Protein vectors or a file of them.
    species
        As in `harmonize`.

    Returns
    -------
    The reports; printing gives all of them.

    Examples
    --------
    >>> from scenc.genes import check
    >>> print(check(["CPSF3L", "CD4"], vocabulary=["INTS11"]))
    GeneMap: 2 names to current symbols, 2 mapped (human)
      current symbol   1   50.0 %
      previous symbol  1   50.0 %  CPSF3L
    <BLANKLINE>
    GeneMatch: 1 of 2 columns used, 100.0 % of 1 vocabulary genes covered
      previous symbol  1   50.0 %  CPSF3L
      not found        1   50.0 %  CD4
    """
    texts = as_names(names)
    if isinstance(proteins, str | Path):
        proteins = ProteinEmbeddings.load(proteins)
    return GeneCheck(
        harmonize(texts, species=species),
        None if vocabulary is None else match(texts, vocabulary, species=species),
        None if proteins is None else proteins.coverage(texts, species=species),
    )


def read_gene_names(path: str | Path, gene_ids: str | None = None) -> Names:
    """Read the gene names of a file of cells without its matrix, or a text file's lines.

    Parameters
    ----------
    path
        A path or address of an ``.h5ad`` file, a zarr store, a 10x ``.h5`` file or a Cell Ranger
        folder; or a text file (``.txt``) with one gene per line.
    gene_ids
        Column of ``var`` with the names; ``None`` for ``var_names``.

    Returns
    -------
    Names in file order, ``""`` for missing ones. Features that are no genes are left out, with a
    warning.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is neither, or has no such column.

    Examples
    --------
    >>> from scenc.genes import read_gene_names
    >>> read_gene_names("pbmc.h5ad", gene_ids="ensembl_id")  # doctest: +SKIP
    """
    from scenc.io import column_names, opened, read_column

    if str(path).endswith(".txt") and not is_address(path):
        if gene_ids is not None:
            raise ValueError(f"gene_ids cannot apply: {path} is a text file of genes.")
        require_files([path])
        return as_names(Path(path).read_text(encoding="utf-8").splitlines())
    with opened(path) as file:
        try:
            names = read_column(file["var"], gene_ids, "var")
            is_gene, left_out = flag_genes(file["var"], None, "var")
        except KeyError:
            columns = ", ".join(column_names(file["var"]))
            raise ValueError(
                f"{path} has no column {gene_ids!r} in var; it has {columns}."
            ) from None
    if is_gene is not None:
        warnings.warn(f"{path}: {left_out}", UserWarning, stacklevel=2)
        names = names[is_gene]
    return as_names(names, "names" if gene_ids is None else f"var[{gene_ids!r}]")
