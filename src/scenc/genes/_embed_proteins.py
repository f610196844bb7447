from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scenc.genes._esm import Esm, Window, cut
from scenc.genes._fasta import Protein, read_fasta
from scenc.genes._protein_embeddings import ProteinEmbeddings, check_output
from scenc.genes._shards import Shards

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray


def embed_proteins(
    fasta: str | Path | Iterable[str | Path],
    model: str | Path = "facebook/esm2_t36_3B_UR50D",
    *,
    out: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    max_tokens_per_batch: int = 8192,
    window: int = 1022,
    overlap: int = 128,
    safetensors_only: bool = True,
    revision: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> ProteinEmbeddings:
    """Compute one ESM-2 vector per gene from protein sequences.

    A protein's vector is the mean of the model's last layer over its residues (the tokens that mark
    its ends do not count), a gene's the mean over its proteins, so that every isoform of the file
    counts once. A protein longer than ``window`` is divided into stretches of about equal length,
    each shown to the model with ``overlap`` residues of context on either side; every residue still
    counts exactly once. Residues U, O, B, Z and X have tokens of their own; J and stops inside a
    protein are read as X.

    Finished vectors are kept in a folder beside ``out``, by sequence, model and precision: a run
    that was stopped goes on where it was when it is started again.

    Parameters
    ----------
    fasta
        One or several FASTA files, plain or gzipped: Ensembl's ``pep.all`` (genes by Ensembl id,
        symbols beside), GENCODE's ``pc_translations``, UniProt (by ``GN=``), or any other whose
        headers begin with the gene's name.
    model
        An ESM-2 model of any size: its name on the Hugging Face Hub or a local folder, which is
        read offline.
    out
        The ``.safetensors`` file to write.
    device
        ``"auto"`` (CUDA, else MPS, else CPU) or a torch device.
    dtype
        ``"float32"``, ``"float16"``, ``"bfloat16"``, or ``"auto"``: float16 on CUDA, else float32.
        Sums over residues and the result are float32 in every case.
    max_tokens_per_batch
        Tokens per batch with padding; lower it where memory runs out.
    window
        Longest stretch shown to the model at once, in residues.
    overlap
        Context on either side of a stretch of a long protein, in residues.
    safetensors_only
        Refuse weights that are pickled (``pytorch_model.bin``).
    revision
        Revision of the model on the Hub.
    overwrite
        Replace ``out`` if it is there.
    progress
        Show a progress bar.

    Returns
    -------
    The vectors, as `ProteinEmbeddings.load` reads them from ``out``.

    Raises
    ------
    ImportError
        If transformers is not installed (``pip install 'scenc[esm]'``).
    FileExistsError
        If ``out`` exists and ``overwrite`` is false.
    FileNotFoundError
        If a FASTA file is missing.
    OSError
        If the model cannot be loaded.
    ValueError
        If a file is no protein FASTA, the model is not ESM-2, or an argument is out of range.

    Examples
    --------
    >>> from scenc.genes import embed_proteins
    >>> proteins = embed_proteins(  # doctest: +SKIP
    ...     "Homo_sapiens.GRCh38.pep.all.fa.gz",
    ...     "facebook/esm2_t12_35M_UR50D",
    ...     out="human_esm2_35M.safetensors",
    ... )
    """
    out = check_output(out)
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists; choose another name or pass overwrite=True.")
    _check_windows(window, overlap, max_tokens_per_batch)
    paths = [Path(fasta)] if isinstance(fasta, str | Path) else [Path(path) for path in fasta]
    if not paths:
        raise ValueError("No FASTA file was given.")
    proteins, notes = read_fasta(paths)
    _check_genes(proteins)
    esm = Esm(str(model), device, dtype, safetensors_only, revision)

    windows = {
        protein.sequence: [
            (_key(esm.fingerprint, part), part) for part in cut(protein.sequence, window, overlap)
        ]
        for protein in proteins
    }
    shards = Shards(out.with_name(f"{out.name}.{esm.fingerprint[:12]}.partial"))
    todo = {key: part for parts in windows.values() for key, part in parts if key not in shards}
    try:
        _compute(esm, todo, shards, max_tokens_per_batch, progress)
    finally:
        shards.flush()
    means = {
        sequence: np.sum([shards[key] for key, _ in parts], axis=0, dtype=np.float64)
        / len(sequence)
        for sequence, parts in windows.items()
    }
    name = Path(model).name if Path(model).is_dir() else model
    source = f"{name}, mean over residues and isoforms, {', '.join(path.name for path in paths)}"
    embeddings = _per_gene(proteins, means, source, notes)
    embeddings.save(out)
    shards.remove()
    return embeddings


def _check_windows(window: int, overlap: int, max_tokens_per_batch: int) -> None:
    if window < 1:
        raise ValueError(f"window={window} must be at least 1 residue.")
    if not 0 <= 2 * overlap < window:
        raise ValueError(f"overlap={overlap} must be at least 0 and less than half of {window=}.")
    if max_tokens_per_batch < window + 2:
        raise ValueError(
            f"max_tokens_per_batch={max_tokens_per_batch} does not hold one window of {window} "
            f"residues and its two ends; it must be at least {window + 2}."
        )


def _check_genes(proteins: list[Protein]) -> None:
    """Refuse, before hours of work, names that differ in capitals only."""
    seen: dict[str, str] = {}
    for protein in proteins:
        other = seen.setdefault(protein.gene.upper(), protein.gene)
        if other != protein.gene:
            raise ValueError(
                f"The genes {other!r} and {protein.gene!r} differ in capitals only; rename one, or "
                "embed their files apart."
            )


def _key(fingerprint: str, part: Window) -> str:
    text = f"{fingerprint} {part.start} {part.stop} {part.sequence}"
    return hashlib.sha256(text.encode()).hexdigest()


def _compute(
    esm: Esm, todo: dict[str, Window], shards: Shards, max_tokens: int, progress: bool
) -> None:
    from tqdm.auto import tqdm

    total = sum(len(part.sequence) for part in todo.values())
    with tqdm(total=total, unit="aa", unit_scale=True, disable=not progress, desc="ESM-2") as bar:
        for keys in _batches(todo, max_tokens):
            parts = [todo[key] for key in keys]
            sums = esm.sums(parts)
            finite = np.isfinite(sums).all(axis=1)
            if not finite.all():
                start = parts[int(np.argmin(finite))].sequence[:30]
                raise ValueError(
                    f"The vector of the protein with {start}... is not finite in {esm.dtype}; "
                    'pass dtype="float32".'
                )
            shards.add(keys, sums)
            bar.update(sum(len(part.sequence) for part in parts))


def _batches(todo: dict[str, Window], max_tokens: int) -> Iterator[list[str]]:
    """Batch windows of similar length, the longest first, within a budget of padded tokens."""
    batch: list[str] = []
    longest = 0
    for key in sorted(todo, key=lambda key: (-len(todo[key].sequence), key)):
        length = len(todo[key].sequence) + 2
        longest = max(longest, length)
        if batch and longest * (len(batch) + 1) > max_tokens:
            yield batch
            batch, longest = [], length
        batch.append(key)
    if batch:
        yield batch


def _per_gene(
    proteins: list[Protein],
    means: dict[str, NDArray[np.float64]],
    source: str,
    notes: tuple[str, ...],
) -> ProteinEmbeddings:
    genes: dict[str, list[Protein]] = {}
    for protein in proteins:
        genes.setdefault(protein.gene, []).append(protein)
    matrix = np.stack(
        [np.mean([means[p.sequence] for p in isoforms], axis=0) for isoforms in genes.values()]
    )
    symbols = [next((p.symbol for p in isoforms if p.symbol), "") for isoforms in genes.values()]
    named_by_id = any(symbol not in ("", gene) for symbol, gene in zip(symbols, genes, strict=True))
    embeddings = ProteinEmbeddings.from_arrays(
        genes,
        matrix.astype(np.float32),
        symbols=symbols if named_by_id else None,
        source=source,
    )
    return replace(embeddings, notes=(*embeddings.notes, *notes))
