from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


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
    is_padded
        Whether any cell is shorter than ``n_tokens``: without padding attention needs no mask.
    max_masked
        The largest of ``n_masked``.
    length_buckets
        First cell, end, and length of the longest cell of each bucket: runs of cells of similar
        length, which the network takes one after the other to spare most of the padding.
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
    is_padded: bool
    max_masked: int
    length_buckets: tuple[tuple[int, int, int], ...]

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.genes.shape[0]

    @property
    def n_tokens(self) -> int:
        """Number of tokens of the longest cell."""
        return self.genes.shape[1]

    @property
    def valid(self) -> torch.Tensor:
        """True at tokens, False at padding, shape ``(n_cells, n_tokens)``."""
        return torch.arange(self.n_tokens, device=self.genes.device) < self.lengths[:, None]

    @property
    def masked(self) -> torch.Tensor:
        """True at masked tokens among the first ``max_masked``, ``(n_cells, max_masked)``."""
        return torch.arange(self.max_masked, device=self.genes.device) < self.n_masked[:, None]

    def values(self) -> torch.Tensor:
        """Return each token's normalised value x~, shape ``(n_cells, n_tokens)``; 0 at padding."""
        return torch.where(self.valid, self.normalized[self.value_index], 0.0)

    def targets(self) -> torch.Tensor:
        """Return x~ of the tokens that may be masked, shape ``(n_cells, max_masked)``."""
        return self.normalized[self.value_index[:, : self.max_masked]]

    def at_cells(self, cells: NDArray[np.int64]) -> Self:
        """Name the rows of the source that the cells came from."""
        return replace(self, cells=torch.from_numpy(np.ascontiguousarray(cells, dtype=np.int64)))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Copy the tensors to a device."""
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

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
