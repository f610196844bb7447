from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch

from scenc.data.tokens._packing import Packing

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class LengthBucket(NamedTuple):
    """Cells of similar length that stand side by side in a batch.

    Attributes
    ----------
    start, end
        The first cell, and that after the last.
    width
        Number of tokens to take: the longest cell's, or a few more.
    is_padded
        Whether any cell is shorter: without padding attention needs no mask.

    Examples
    --------
    >>> rows = scenc.data.open_rows(adata.X)
    >>> tokens = scenc.data.TokenDataset(
    ...     rows, np.arange(adata.n_vars), scenc.data.Tokenizer(), by_length=True
    ... )
    >>> batch = tokens[scenc.data.Request(np.arange(64), seed=0)]
    >>> [(bucket.start, bucket.end) for bucket in batch.length_buckets]
    [(0, 16), (16, 58), (58, 64)]
    >>> batch.length_buckets[0].width == batch.n_tokens
    True
    """

    start: int
    end: int
    width: int
    is_padded: bool


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """A batch of cells as tokens: what the data path hands to the network.

    Counts are small integers, so a cell holds few distinct ones: each distinct (cell, count) pair
    is stored once and tokens point to it. An expression encoder runs on the distinct values only.
    Two cells, of five and three tokens::

                       masked  |  not masked  |  padding
        genes          71  12  |   5  40   3
                       12      |   5  71      |  0   0
        value_index     0   1  |   1   0   2
                        3      |   4   3      |  0   0

        counts          1   2   7  |  1   4        of the first cell, of the second
        normalized     log(1 + count / library size * target_sum) of each of these

    Masked tokens stand first, so that the decoder sees the first ``max_masked`` columns only.
    Indices have 32 bits: half as much as PyTorch's usual 64 to write, pin and send to a GPU.

    Attributes
    ----------
    genes
        Vocabulary index of each token, shape ``(n_cells, n_tokens)``; 0 at padding.
    value_index
        Position of each token's value in the distinct values, shape ``(n_cells, n_tokens)``;
        0 at padding.
    normalized
        Distinct normalised values x~ (eq. 2), shape ``(n_values,)``.
    counts
        Distinct raw counts x, shape ``(n_values,)``.
    quantile_bins
        Distinct values' bin among their cell's quantiles (eq. 14), shape ``(n_values,)``; ``None``
        if not asked for.
    lengths
        Number of valid tokens of each cell, shape ``(n_cells,)``. Valid tokens stand first.
    n_masked
        Number of masked tokens of each cell, shape ``(n_cells,)``. Masked tokens stand first.
    cells
        Row of each cell in its source, shape ``(n_cells,)``.
    totals
        Sum of normalised expression x~ over all genes of the cell that are in the vocabulary, also
        those beyond `Tokenizer.context`, shape ``(n_cells,)``; needed by ``pooling="expression"``,
        ``None`` if not asked for.
    max_masked
        The largest of ``n_masked``.
    n_valid
        Number of valid tokens of all cells: a GPU's own sum would have to be waited for.
    length_buckets
        Runs of cells of similar length, which the network takes one after the other to spare most
        of the padding.
    log_shares
        Distinct values' 100 log(1 + x) divided by the sum of log(1 + x) over all genes of the cell
        that are in the vocabulary, shape ``(n_values,)``; ``None`` if not asked for.
    library_sizes
        Library size of each cell (eq. 2), shape ``(n_cells,)``; 0 for cells without tokens.
        ``None`` in a batch that was put together without them.
    packing
        Where the tokens stand without padding: the network then takes all cells at once, packed,
        and no buckets. A batch that is copied to a CUDA device has it, since each bucket costs the
        launch of all kernels there; ``None`` elsewhere.

    Examples
    --------
    >>> rows = scenc.data.open_rows(adata.X)
    >>> tokenizer = scenc.data.Tokenizer(context=64, mask_fraction=0.5)
    >>> tokens = scenc.data.TokenDataset(rows, np.arange(adata.n_vars), tokenizer)
    >>> batch = tokens[scenc.data.Request(np.arange(8), seed=0)]
    >>> batch.genes.shape, batch.max_masked
    (torch.Size([8, 64]), 32)
    >>> batch.values().shape  # x~ of each gene
    torch.Size([8, 64])
    """

    genes: torch.Tensor
    value_index: torch.Tensor
    normalized: torch.Tensor
    counts: torch.Tensor
    quantile_bins: torch.Tensor | None
    lengths: torch.Tensor
    n_masked: torch.Tensor
    cells: torch.Tensor
    totals: torch.Tensor | None
    max_masked: int
    n_valid: int
    length_buckets: tuple[LengthBucket, ...]
    log_shares: torch.Tensor | None = None
    library_sizes: torch.Tensor | None = None
    packing: Packing | None = None

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.genes.shape[0]

    @property
    def n_tokens(self) -> int:
        """Number of tokens of the longest cell, or a few more."""
        return self.genes.shape[1]

    @property
    def valid(self) -> torch.Tensor:
        """True at tokens, False at padding, shape ``(n_cells, n_tokens)``."""
        return torch.arange(self.n_tokens, device=self.genes.device) < self.lengths[:, None]

    @property
    def masked(self) -> torch.Tensor:
        """True at masked tokens among the first ``max_masked``, ``(n_cells, max_masked)``."""
        return torch.arange(self.max_masked, device=self.genes.device) < self.n_masked[:, None]

    @property
    def scaled(self) -> torch.Tensor:
        """Distinct counts scaled to a library size of `Tokenizer.target_sum`, ``(n_values,)``."""
        return self.normalized.expm1()

    def values(self) -> torch.Tensor:
        """Return each token's normalised value x~, shape ``(n_cells, n_tokens)``; 0 at padding."""
        return torch.where(self.valid, self.normalized[self.value_index], 0.0)

    def targets(self) -> torch.Tensor:
        """Return x~ of the tokens that may be masked, shape ``(n_cells, max_masked)``."""
        return self.normalized[self.value_index[:, : self.max_masked]]

    def at_cells(self, cells: NDArray[np.int64]) -> Self:
        """Name the rows of the source that the cells came from."""
        return replace(self, cells=torch.from_numpy(np.ascontiguousarray(cells, dtype=np.int64)))

    def to(self, device: torch.device | str, non_blocking: bool | None = None) -> Self:
        """Copy the tensors to a device; by default without waiting on CUDA, and only there.

        Lightning copies batches by this method and leaves the default: it asks for copies that are
        not waited for with plain tensors only. From page-locked memory, where batches for a GPU
        are, a copy is queued like a kernel; on other devices it may be read before it is there.
        """
        on_cuda = torch.device(device).type == "cuda"
        without_waiting = on_cuda if non_blocking is None else non_blocking
        there = self._map(lambda t: t.to(device, non_blocking=without_waiting))
        if on_cuda:
            return there.packed()
        return replace(there, packing=None)

    def packed(self) -> Self:
        """Say where the tokens stand without padding, if there are any."""
        if not self.n_valid:
            return self
        return replace(self, packing=Packing.of(self.lengths, self.n_valid, self.n_tokens))

    def pin_memory(self) -> Self:
        """Copy the tensors to page-locked memory."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, torch.Tensor):
                changed[field.name] = function(value)
        return replace(self, **changed)
