"""Compiled loops of dropout on CPUs.

Whether a number is dropped follows from a key of its row and a code of its column: 32 bits that
are mixed and compared with the chance. That takes about a nanosecond for ten numbers, less than
to read a mask from memory. So no mask is written: backward finds the same one from the same keys.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What the loops may do to be vectorised: add up in another order. NaN and infinity are kept.
_FASTMATH = {"reassoc", "contract", "nsz", "arcp"}
# 2^f for |f| <= 1/2 by its Taylor series, to the precision of float32.
_C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(math.log(2) ** n / math.factorial(n)) for n in range(1, 7)
)
_LOG2_E = np.float32(1 / math.log(2))
_LEAST_EXPONENT = np.float32(-126)
_HALF, _ZERO, _ONE = np.float32(0.5), np.float32(0), np.float32(1)
_SHIFT, _BIAS = np.int32(23), np.int32(127)
_SIGN, _REST = np.int32(31), np.int32(0x7FFFFFFF)
_S15, _S16 = np.uint32(15), np.uint32(16)
_M1, _M2 = np.uint32(0x21F0AAAD), np.uint32(0x735A2D97)


def column_codes(n: int) -> NDArray[np.uint32]:
    """Return the codes of n columns."""
    return _codes(max(n, 1).bit_length())[:n]


@cache
def _codes(n_bits: int) -> NDArray[np.uint32]:
    # Equal steps would repeat a row's mask, shifted, in rows whose keys differ by one of them.
    numbers: NDArray[np.uint32] = mix(np.arange(2**n_bits, dtype=np.uint32))
    return numbers


@njit(cache=True, nogil=True, inline="always")
def _mixed(x):  # type: ignore[no-untyped-def]
    """Return 32 bits each of which depends on all of x (Ettinger's low-bias hash)."""
    # numba computes with 64 bits unless told otherwise.
    x = np.uint32(x ^ (x >> _S16))
    x = np.uint32(x * _M1)
    x = np.uint32(x ^ (x >> _S15))
    x = np.uint32(x * _M2)
    return np.uint32(x ^ (x >> _S15))


@njit(cache=True, nogil=True)
def mix(numbers):  # type: ignore[no-untyped-def]
    """Return 32 mixed bits for each of an array's numbers."""
    mixed = np.empty_like(numbers)
    for n in range(len(numbers)):
        mixed[n] = _mixed(np.uint32(numbers[n] + np.uint32(1)))
    return mixed


@njit(cache=True, nogil=True, inline="always")
def _exp(x):  # type: ignore[no-untyped-def]
    """Return e^x for x near or below 0; NaN for NaN."""
    power = x * _LOG2_E
    power = _LEAST_EXPONENT if power < _LEAST_EXPONENT else power
    whole = np.floor(power + _HALF)
    f = power - whole
    rest = ((((((_C6 * f + _C5) * f) + _C4) * f + _C3) * f + _C2) * f + _C1) * f + _ONE
    return rest * np.int32((np.int32(whole) + _BIAS) << _SHIFT).view(np.float32)


@njit(cache=True, nogil=True, inline="always")
def _ordered(bits):  # type: ignore[no-untyped-def]
    """Turn a float's bits into an integer that orders as the float does, and back."""
    return np.int32(bits ^ ((bits >> _SIGN) & _REST))


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def drop(x, out, keys, columns, least, scale):  # type: ignore[no-untyped-def]
    """Write x, shape ``(n_rows, n)``, with some numbers zeroed and the others scaled, to out.

    Kept is what has `least` bits or more.
    """
    n_rows, n = x.shape
    for i in range(n_rows):
        row, result, key = x[i], out[i], keys[i]
        for j in range(n):
            kept = _mixed(np.uint32(key ^ columns[j])) >= least
            result[j] = row[j] * scale if kept else _ZERO


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def softmax_and_drop(scores, bits, lse, unit, keys, columns, least, scale):  # type: ignore[no-untyped-def]
    """Turn scores, shape ``(n_rows, n)``, into softmax(unit * scores) with dropout, in place.

    `bits` are the same numbers as int32. The log of each row's sum goes to lse.
    """
    n_rows, n = scores.shape
    for i in range(n_rows):
        row, row_bits, key = scores[i], bits[i], keys[i]
        # As integers, since a largest float is not looked for in vectors; a NaN counts as largest.
        top = np.int32(-(2**31))
        for j in range(n):
            top = np.int32(max(top, _ordered(row_bits[j])))
        most = _ordered(top).view(np.float32)
        total = _ZERO
        for j in range(n):
            e = _exp((row[j] - most) * unit)
            row[j] = e
            total += e
        weight = scale / total
        for j in range(n):
            kept = _mixed(np.uint32(key ^ columns[j])) >= least
            row[j] = row[j] * weight if kept else _ZERO
        lse[i] = most * unit + np.log(total)


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def softmax_gradient(scores, grads, lse, through, unit, keys, columns, least, scale):  # type: ignore[no-untyped-def]
    """Turn scores into weights after dropout, and their gradients into those of the scores.

    Both have the shape ``(n_rows, n)`` and are changed in place; lse is `softmax_and_drop`'s, and
    `through` each row's product of output and its gradient.
    """
    n_rows, n = scores.shape
    for i in range(n_rows):
        row, grad, key, log_sum, inner = scores[i], grads[i], keys[i], lse[i], through[i]
        for j in range(n):
            weight = _exp(row[j] * unit - log_sum)
            factor = scale if _mixed(np.uint32(key ^ columns[j])) >= least else _ZERO
            row[j] = weight * factor
            grad[j] = weight * (grad[j] * factor - inner) * unit
