from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

# The column of var in which 10x Genomics and those who follow it say what a feature is.
COLUMN = "feature_types"
# What it calls genes, and what it calls other things that are counted in the same cells.
_GENES = {"gene expression", "gene", "genes", "gex", "rna", "mrna"}
_OTHERS = {
    "antibody capture", "antigen capture", "crispr guide capture", "custom", "multiplexing capture",
    "peaks", "peak", "chromatin accessibility", "vdj", "adt", "hto", "atac", "gdo", "protein",
    "proteins", "prot", "antibody", "hashtag", "negative control probe",
    "negative control codeword", "unassigned codeword", "deprecated codeword", "blank codeword",
    "genomic control",
}  # fmt: skip


def flag_genes(
    var: Any, feature_types: str | Sequence[str] | None, where: str
) -> tuple[NDArray[np.bool_] | None, str | None]:
    """Say which features of a data set are genes, by ``feature_types`` of var if it is there.

    Parameters
    ----------
    var
        A data frame, or the group of an open file that holds one.
    feature_types
        The kinds of features to take as genes, or ``"all"``; ``None``: those that the column calls
        genes (``"Gene Expression"``), or all that it does not call anything else.
    where
        Name of the frame in messages, such as ``"adata.var"``.

    Returns
    -------
    True for genes, shape ``(n_features,)``, ``None`` where all are; and what is left out in words.

    Raises
    ------
    ValueError
        No feature is a gene; the message says which kinds there are.

    Examples
    --------
    >>> var = pd.DataFrame({"feature_types": ["Gene Expression", "Antibody Capture"]})
    >>> is_gene, left_out = scenc.genes.flag_genes(var, None, "adata.var")
    >>> is_gene.tolist()
    [True, False]
    >>> print(left_out)
    1 of 2 features in adata.var are no genes and are left out: 1 Antibody Capture ...
    """
    if COLUMN not in var or feature_types == "all":
        return None, None
    from scenc.io import read_groups

    kinds = read_groups(var, COLUMN, where)
    flags = np.append(_wanted(kinds.categories, feature_types), feature_types is None)[kinds.codes]
    if flags.all():
        return None, None
    counts = kinds[~flags].value_counts()
    others = ", ".join(f"{count:,} {kind}" for kind, count in counts[counts > 0].items())
    if not flags.any():
        raise ValueError(
            f"{where} has no genes, only {others} ({COLUMN}). Name what to take as genes: "
            f"{COLUMN}=..., or 'all'."
        )
    return flags, (
        f"{int((~flags).sum()):,} of {len(flags):,} features in {where} are no genes and are left "
        f"out: {others} ({COLUMN}='all' takes them as genes)."
    )


def _wanted(kinds: pd.Index[str], feature_types: str | Sequence[str] | None) -> list[bool]:
    """Say of each kind of features whether it is taken as genes."""
    names = [kind.strip().lower() for kind in kinds]
    if feature_types is not None:
        given = [feature_types] if isinstance(feature_types, str) else feature_types
        wanted = {kind.strip().lower() for kind in given}
        return [name in wanted for name in names]
    if any(name in _GENES for name in names):
        return [name in _GENES for name in names]
    return [name not in _OTHERS for name in names]
