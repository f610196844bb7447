from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from scenc.genes._alignment import AlignedEmbeddings, EmbeddingCoverage, align_vectors, find_vectors
from scenc.genes._identifiers import as_names, identify
from scenc.genes._readers import FORMAT, RawVectors, from_anndata, read_vectors
from scenc.io import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from scenc.genes._alignment import Missing
    from scenc.genes._identifiers import Names

    type Policy = Literal["error", "first"]
    type NonFinite = Literal["error", "drop"]


@dataclass(frozen=True, eq=False, repr=False)
class ProteinEmbeddings:
    """One pretrained vector per gene, from a protein language model or any other source.

    Made by `load`, `from_arrays`, `from_anndata` or `scenc.genes.embed_proteins`, which check what
    they are given.

    Parameters
    ----------
    matrix
        One row per gene, float16 or float32, contiguous, shape ``(n_genes, dim)``.
    names
        Unique gene names: Ensembl ids without version, or symbols.
    symbols
        Symbols beside Ensembl ids, ``""`` where there is none, or ``None``.
    source
        Where the vectors come from.
    id_kind
        ``"ensembl"``, ``"symbol"`` or ``"mixed"``: what ``names`` are.
    notes
        Remarks of the checks, in sentences.

    Examples
    --------
    >>> proteins = scenc.genes.ProteinEmbeddings.from_arrays(["A1BG", "CD4"], np.eye(2))
    >>> proteins.matrix.shape, proteins.names.tolist(), proteins.id_kind
    ((2, 2), ['A1BG', 'CD4'], 'symbol')
    """

    matrix: NDArray[np.float16] | NDArray[np.float32]
    names: Names
    symbols: Names | None = None
    source: str = "memory"
    id_kind: str = "symbol"
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def load(
        cls, path: str | Path, *, duplicates: Policy = "error", nonfinite: NonFinite = "error"
    ) -> Self:
        """Read vectors from a file of any of the formats in use.

        - ``.safetensors``: what `save` writes, or one tensor per gene,
        - ``.pt``, ``.pth``, ``.torch``, ``.ckpt``: a dictionary from symbol or Ensembl id to
          vector (UCE, STATE, Heimdall), or a checkpoint with one as ``protein_embeds_dict``,
        - ``.h5``, ``.hdf5``: ``keys`` and ``arrays/<key>`` (TranscriptFormer), or AnnData,
        - ``.h5ad``: genes as ``obs_names``, vectors as ``X``,
        - ``.npz``: ``embedding`` or ``embeddings``, and ``ensembl_id``, ``symbol``, ``keys`` or
          ``names``,
        - ``.parquet``: genes as index (scPRINT); needs pyarrow.

        No file is unpickled: what cannot be read without is refused.

        Parameters
        ----------
        path
            The file; its ending tells the format.
        duplicates
            Names that are equal but for version or capitals. With equal vectors the first is kept,
            with a warning. With different vectors: ``"error"``, or keep the ``"first"`` of each,
            with a warning.
        nonfinite
            Vectors with a NaN or an infinity: ``"error"``, or ``"drop"`` them, with a warning.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file cannot be read safely, or its vectors do not pass the checks; the message
            names the file, the gene and the remedy.
        ImportError
            If a parquet file is given without pyarrow.

        Examples
        --------
        >>> from scenc.genes import ProteinEmbeddings
        >>> proteins = ProteinEmbeddings.load("esm2.safetensors")  # doctest: +SKIP
        """
        path = Path(path)
        raw = read_vectors(path)
        source = f"{path.name} ({raw.source})" if raw.source else path.name
        return cls._checked(replace(raw, source=source), str(path), duplicates, nonfinite)

    @classmethod
    def from_arrays(
        cls,
        names: Iterable[object],
        matrix: NDArray[Any],
        *,
        symbols: Iterable[object] | None = None,
        source: str = "memory",
        duplicates: Policy = "error",
        nonfinite: NonFinite = "error",
    ) -> Self:
        """Make it from names and a matrix; the checks are those of `load`.

        Parameters
        ----------
        names
            One gene per row.
        matrix
            Vectors, shape ``(n_genes, dim)``; float16 is kept, other types become float32.
        symbols
            Symbols beside the names, or ``None``.
        source
            Name in reports.
        duplicates, nonfinite
            As in `load`.

        Raises
        ------
        ValueError
            If shapes differ, or names or values do not pass the checks.

        Examples
        --------
        >>> import numpy as np
        >>> from scenc.genes import ProteinEmbeddings
        >>> ProteinEmbeddings.from_arrays(["A1BG", "CD4"], np.eye(2))
        <ProteinEmbeddings: 2 genes x 2, float32, by symbol, from memory>
        """
        texts = as_names(names).tolist()
        extra = None if symbols is None else as_names(symbols, "symbols").tolist()
        raw = RawVectors(texts, np.asarray(matrix), extra, source)
        return cls._checked(raw, source, duplicates, nonfinite)

    @classmethod
    def from_anndata(
        cls, adata: Any, *, duplicates: Policy = "error", nonfinite: NonFinite = "error"
    ) -> Self:
        """Make it from an AnnData object: ``obs_names`` are genes, ``X`` holds the vectors.

        Parameters
        ----------
        adata
            The annotated matrix.
        duplicates, nonfinite
            As in `load`.

        Examples
        --------
        >>> proteins = ProteinEmbeddings.from_anndata(adata)  # doctest: +SKIP
        """
        raw = replace(from_anndata(adata, "AnnData"), source="AnnData")
        return cls._checked(raw, "AnnData", duplicates, nonfinite)

    @classmethod
    def _checked(
        cls, raw: RawVectors, where: str, duplicates: Policy, nonfinite: NonFinite
    ) -> Self:
        from scenc.genes._vector_checks import check_vectors

        matrix, names, symbols, notes = check_vectors(raw, where, duplicates, nonfinite)
        for note in notes:
            warnings.warn(f"{where}: {note}", stacklevel=3)
        kinds = (identify(names)["kind"] == "ensembl").to_numpy()
        id_kind = "ensembl" if kinds.all() else "mixed" if kinds.any() else "symbol"
        return cls(matrix, names, symbols, raw.source or where, id_kind, notes)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.matrix.shape[1])

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        size = f"{len(self):,} genes x {self.dim:,}, {self.matrix.dtype}"
        return f"<ProteinEmbeddings: {size}, by {self.id_kind}, from {self.source}>"

    def coverage(
        self, vocabulary: Iterable[object], *, species: str = "auto", ignore_case: bool = False
    ) -> EmbeddingCoverage:
        """Say which genes of a vocabulary have a vector.

        Parameters
        ----------
        vocabulary
            Gene names of any kind; those that mean one gene all get its vector.
        species
            As in `scenc.genes.harmonize`.
        ignore_case
            Whether ``Actb`` may take the vector of ``ACTB``: for files of other species than human
            whose symbols are in capitals, as UCE's and STATE's. A human file would then lend its
            vectors to mouse genes, so it is off by default; the report says what it would add.

        Examples
        --------
        >>> import numpy as np
        >>> from scenc.genes import ProteinEmbeddings
        >>> proteins = ProteinEmbeddings.from_arrays(["A1BG", "INTS11"], np.eye(2))
        >>> print(proteins.coverage(["CPSF3L", "ENSG00000010610"]))
        EmbeddingCoverage: 1 of 2 genes have a vector (50.0 %) in memory
          previous symbol  1   50.0 %
          not found        1   50.0 %  ENSG00000010610
        """
        genes = as_names(vocabulary, "vocabulary")
        return find_vectors(genes, self.names, self.symbols, self.source, species, ignore_case)

    def align(
        self,
        vocabulary: Iterable[object],
        missing: Missing = "learned",
        *,
        species: str = "auto",
        ignore_case: bool = False,
    ) -> AlignedEmbeddings:
        """Put the vectors in the order of a vocabulary.

        Parameters
        ----------
        vocabulary
            Gene names of any kind.
        missing
            What happens to genes without a vector. ``"learned"``: their row is zero here, and the
            model gives each a vector and trains it. ``"zero"``: their row is zero and
            stays so. ``"drop"``: they are left out; ``index`` says what remains.
        species, ignore_case
            As in `coverage`.

        Raises
        ------
        ValueError
            If no gene has a vector, or ``missing`` is none of the three.

        Examples
        --------
        >>> import numpy as np
        >>> from scenc.genes import ProteinEmbeddings
        >>> proteins = ProteinEmbeddings.from_arrays(["A1BG", "CD4"], np.eye(2))
        >>> aligned = proteins.align(["CD4", "unheard of"])
        >>> aligned.matrix.tolist(), aligned.has_vector.tolist()
        ([[0.0, 1.0], [0.0, 0.0]], [True, False])
        """
        coverage = self.coverage(vocabulary, species=species, ignore_case=ignore_case)
        return align_vectors(self.matrix, coverage, missing)

    def save(self, path: str | Path) -> Path:
        """Write the vectors to a ``.safetensors`` file that `load` reads.

        The file holds the tensor ``embeddings`` and, as metadata, names, symbols and source. It is
        complete or not there at all.

        Parameters
        ----------
        path
            Where to write; must end in ``.safetensors``.

        Returns
        -------
        The path.

        Raises
        ------
        ValueError
            If the path ends otherwise.

        Examples
        --------
        >>> proteins.save("esm2.safetensors")  # doctest: +SKIP
        """
        from safetensors.numpy import save_file

        path = check_output(path)
        metadata = {
            "format": FORMAT,
            "version": "1",
            "source": self.source,
            "names": json.dumps(self.names.tolist()),
        }
        if self.symbols is not None:
            metadata["symbols"] = json.dumps(self.symbols.tolist())
        with atomic_path(path) as temporary:
            save_file({"embeddings": self.matrix}, temporary, metadata)
        return path


def check_output(path: str | Path) -> Path:
    """Refuse to write vectors under a name that would be misread when loaded."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: vectors are written as safetensors; end it in .safetensors.")
    return path
