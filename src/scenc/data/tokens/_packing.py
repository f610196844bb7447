from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch.nn import functional as F

# Attention's kernels are compiled and chosen for steps of so many tokens.
_STEP = 64


class Packing(NamedTuple):
    """Where tokens stand when cells follow each other without padding.

    Two cells, of three tokens and of one, in a batch that is three tokens wide::

        padded      a b c | d . .
        packed      a b c d
        places      0 1 2 3
        starts      0     3 4

    Attributes
    ----------
    places
        Place of each packed token among the padded ones, cell by cell, shape ``(n_packed,)``.
    starts
        Where each cell starts among the packed tokens, and where the last ends, shape ``(n_cells +
        1,)``, 32 bits as attention's kernels want them.
    width
        Number of tokens of each cell where they are padded.
    longest
        At least the number of tokens of the longest cell.

    Examples
    --------
    >>> import torch
    >>> packing = scenc.data.Packing.of(torch.tensor([3, 1]), n_packed=4, width=3)
    >>> packing.starts.tolist()
    [0, 3, 4]
    >>> packing.unpack(torch.ones(4, 1))[..., 0].tolist()
    [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
    """

    places: torch.Tensor
    starts: torch.Tensor
    width: int
    longest: int

    @classmethod
    def of(cls, lengths: torch.Tensor, n_packed: int, width: int) -> Self:
        """Pack cells of these lengths, without waiting for a GPU.

        Parameters
        ----------
        lengths
            Number of tokens of each cell, shape ``(n_cells,)``; they stand first.
        n_packed
            Sum of the lengths.
        width
            Number of tokens of each cell where they are padded.
        """
        device = lengths.device
        starts = F.pad(lengths.cumsum(0), (1, 0))
        # A GPU's own sum would have to be waited for: hence `n_packed`.
        cells = torch.repeat_interleave(
            torch.arange(len(lengths), device=device), lengths, output_size=n_packed
        )
        within = torch.arange(n_packed, device=device) - starts[cells]
        longest = -(-width // _STEP) * _STEP
        return cls(cells * width + within, starts.int(), width, longest)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> torch.Tensor:
        """Number of tokens of each cell, shape ``(n_cells,)``."""
        return self.starts.diff()

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """Take what is not padding from ``(n_cells, width, ...)``; ``(n_packed, ...)``."""
        return padded.flatten(0, 1).index_select(0, self.places)

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """Return ``(n_cells, width, ...)`` from ``(n_packed, ...)``; 0 at padding."""
        padded = packed.new_zeros(self.n_cells * self.width, *packed.shape[1:])
        padded = padded.index_copy(0, self.places, packed)
        return padded.view(self.n_cells, self.width, *packed.shape[1:])

    def with_last(self, packed: torch.Tensor, last: torch.Tensor) -> tuple[torch.Tensor, Self]:
        """Put one more token, ``(n_cells, d)``, behind those of each cell, ``(n_packed, d)``."""
        n_packed, n_cells = len(packed), self.n_cells
        longer = type(self).of(self.lengths + 1, n_packed + n_cells, self.width + 1)
        cells = self.places // self.width
        own = torch.arange(n_packed, device=packed.device) + cells
        tokens = packed.new_empty(n_packed + n_cells, *packed.shape[1:])
        tokens = tokens.index_copy(0, own, packed)
        return tokens.index_copy(0, longer.starts[1:].long() - 1, last), longer
