from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from scenc.data import Packing

LENGTHS = st.lists(st.integers(0, 6), min_size=1, max_size=9).filter(any)


def pack(lengths, width=7):
    """Return tokens that are numbered cell by cell, padded with 99, and their packing."""
    lengths = torch.tensor(lengths)
    padded = torch.full((len(lengths), width), 99)
    valid = torch.arange(width) < lengths[:, None]
    padded[valid] = torch.arange(int(lengths.sum()))
    return padded, valid, Packing.of(lengths, int(lengths.sum()), width)


@given(LENGTHS)
def test_cells_follow_each_other_without_padding(lengths):
    padded, valid, packing = pack(lengths)
    packed = packing.pack(padded)
    assert packed.tolist() == list(range(sum(lengths)))
    starts = packing.starts.tolist()
    assert [end - start for start, end in zip(starts, starts[1:], strict=False)] == lengths
    assert packing.lengths.tolist() == lengths
    assert packing.starts.dtype == torch.int32
    assert packing.longest >= max(lengths)
    assert torch.equal(packing.unpack(packed), torch.where(valid, padded, 0))


@given(LENGTHS)
def test_a_token_stands_behind_those_of_its_cell(lengths):
    _, _, packing = pack(lengths)
    tokens = torch.arange(sum(lengths), dtype=torch.float)[:, None]
    last = -1.0 - torch.arange(len(lengths))[:, None]
    longer, wide = packing.with_last(tokens, last)
    expected, start = [], 0
    for cell, length in enumerate(lengths):
        expected += [*range(start, start + length), -1 - cell]
        start += length
    assert longer[:, 0].tolist() == expected
    assert wide.lengths.tolist() == [length + 1 for length in lengths]
    assert wide.width == packing.width + 1
    assert torch.equal(wide.pack(wide.unpack(longer)), longer)
