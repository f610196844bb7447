from __future__ import annotations

import gc
import pickle

import numpy as np

from scenc.data.tokens._memory import Memory


def place(array):
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_once_no_part_of_it_is():
    memory = Memory()
    first = memory.take(1000, np.int32)
    first[:] = np.arange(1000)
    at, part = place(first), first[10:20]
    del first
    gc.collect()
    second = memory.take(1000, np.float32)
    second[:] = 0
    assert place(second) != at
    assert part.tolist() == list(range(10, 20))
    del part
    gc.collect()
    third = memory.take(900, np.float32)
    assert place(third) == at
    assert (third.shape, third.dtype) == ((900,), np.float32)


def test_memory_that_is_too_small_or_forgotten_is_not_used_again():
    memory = Memory()
    small = memory.take(10, np.float32)
    del small
    gc.collect()
    assert len(memory.take(5000, np.float32)) == 5000
    held = memory.take(10, np.float32)
    memory.forget()
    del held
    gc.collect()
    assert not memory._spare
    assert len(memory.take(0, np.int32)) == 0


def test_memory_may_be_sent_to_another_process():
    memory = Memory()
    held = memory.take(10, np.int32)
    assert len(pickle.loads(pickle.dumps(memory)).take(3, np.int32)) == 3
    assert len(held) == 10
