"""The data of a benchmark: cells to train on, and labelled cells to evaluate on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from scenc._arguments import refuse_unknown
from scenc._paths import is_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from anndata import AnnData

    type AnnDataOrPath = AnnData | str | PathLike[str]


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Cells to train on.

    Attributes
    ----------
    data
        An AnnData, a file of cells (``.h5ad``, zarr, 10x ``.h5``, a Cell Ranger folder), or several
        of either. Several are joined: their genes are brought onto one nomenclature
        (`scenc.genes.harmonize`), and the model learns the union; a gene that a file lacks counts
        as not expressed there.
    layer
        Layer that holds raw counts; ``None``: X. ``"raw"``: ``adata.raw``, where there is one and
        no layer of that name, else X (the rule of CELLxGENE's files).
    batch_key
        Column of obs with batches, for methods that want them; scenc's models do not.
    gene_ids
        Column of var that holds gene identifiers; ``None``: var_names.
    n_cells
        Number of cells, for estimates made before the files are there; else it is counted.

    Examples
    --------
    >>> scenc.benchmark.TrainingSet(["a.h5ad", "b.h5ad"])
    """

    data: AnnDataOrPath | Sequence[AnnDataOrPath]
    layer: str | None = None
    batch_key: str | None = None
    gene_ids: str | None = None
    n_cells: int | None = None

    @property
    def sources(self) -> list[AnnDataOrPath]:
        """The parts, one or several."""
        several = isinstance(self.data, list | tuple)
        return list(self.data) if several else [self.data]  # type: ignore[arg-type]

    @classmethod
    def of(cls, value: Any) -> Self:
        """Return a set as it is, or make one of a mapping of its attributes or of just the data."""
        return _of(cls, value, "training set")


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Labelled cells that no encoding has seen, to evaluate embeddings on.

    Attributes
    ----------
    data
        An AnnData or a file of cells, as in `TrainingSet`.
    label_key
        Column of obs with cell types.
    batch_key
        Column of obs with batches; ``None``: there are none, and scores of batch mixing are
        undefined.
    layer, gene_ids, n_cells
        As in `TrainingSet`.
    min_cells
        Types with fewer cells are left out of classification; the paper's 250 unless you say
        otherwise. Results say where no type reaches it.

    Examples
    --------
    >>> scenc.benchmark.EvaluationSet(adata, label_key="cell_type", min_cells=50)
    """

    data: AnnDataOrPath
    label_key: str = "cell_type"
    batch_key: str | None = None
    layer: str | None = None
    gene_ids: str | None = None
    min_cells: int = 250
    n_cells: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.min_cells, int) or self.min_cells < 2:
            raise ValueError(f"min_cells must be at least 2, got {self.min_cells!r}.")

    @classmethod
    def of(cls, value: Any) -> Self:
        """Return a set as it is, or make one of a mapping of its attributes or of just the data."""
        return _of(cls, value, "evaluation set")


def _of[T](cls: type[T], value: Any, what: str) -> T:
    if isinstance(value, cls):
        return value
    if not isinstance(value, dict):
        return cls(value)  # type: ignore[call-arg]
    arguments: Mapping[str, Any] = value
    refuse_unknown(arguments, (field.name for field in fields(cls)), f"argument of a {what}")  # type: ignore[arg-type]
    if "data" not in arguments:
        raise TypeError(f"A {what} needs data: an AnnData or an .h5ad file.")
    return cls(**arguments)


def source_name(source: AnnDataOrPath, position: int = 0) -> str:
    """Return the name of a part in messages and tables: the file's name without its folder."""
    if isinstance(source, str | PathLike):
        return str(source).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return f"AnnData {position + 1}"


def missing_files(sources: Iterable[AnnDataOrPath]) -> list[Path]:
    """Return the files that are not there; addresses are not looked up."""
    named = [source for source in sources if isinstance(source, str | PathLike)]
    return [Path(path) for path in named if not is_address(path) and not Path(path).exists()]
