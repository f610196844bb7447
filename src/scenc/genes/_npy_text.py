from __future__ import annotations

import pickletools
from typing import IO

import numpy as np

_TEXT = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_STORE = {"BINPUT", "LONG_BINPUT", "MEMOIZE"}
_RECALL = {"BINGET", "LONG_BINGET"}
#: what else stands between the strings of a pickled list
_BETWEEN = {"MARK", "APPEND", "APPENDS", "FRAME"}


def read_text_array(stream: IO[bytes], source: str) -> list[str]:
    """Read a one-dimensional ``.npy`` array of strings, whichever way it was saved.

    ``numpy.save`` pickles arrays of Python strings (dtype object), and unpickling can run code. The
    pickle is not loaded here: its instructions are listed, and the strings are taken from the list
    of values. Anything else among the values is refused.

    Parameters
    ----------
    stream
        The content of a ``.npy`` file.
    source
        Name of the array in errors.

    Raises
    ------
    ValueError
        If it is not a one-dimensional array of strings.
    """
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    if len(shape) != 1:
        raise ValueError(f"{source} must be one-dimensional, but its shape is {shape}.")
    if dtype == np.dtype(object):
        values = _pickled_strings(stream.read(), source)
    elif dtype.kind in "US":
        array = np.frombuffer(stream.read(), dtype=dtype)
        values = (np.char.decode(array, "utf-8") if dtype.kind == "S" else array).tolist()
    else:
        raise ValueError(f"{source} must hold names, but its type is {dtype}.")
    if len(values) != shape[0]:
        raise ValueError(f"{source} is damaged: {len(values):,} names where {shape[0]:,} belong.")
    return values


def _pickled_strings(pickled: bytes, source: str) -> list[str]:
    """List the values of a pickled array of strings without loading it.

    numpy's pickle builds an empty array, then a list of its values, then a tuple of both::

        ... GLOBAL ndarray ... EMPTY_LIST MARK BINUNICODE 'A1BG' BINPUT 7 ... APPENDS TUPLE BUILD

    A string that comes again is recalled by the number under which it was stored (BINPUT, BINGET).
    """
    stored: dict[int, object] = {}
    values: list[str] | None = None
    last: object = None
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            name = opcode.name
            if name in _STORE:
                stored[len(stored) if name == "MEMOIZE" else int(str(argument))] = last
                continue
            last = argument if name in _TEXT else None
            if name in _RECALL:
                last = stored[int(str(argument))]
            if values is None:
                values = [] if name == "EMPTY_LIST" else None
            elif name == "TUPLE":
                return values
            elif name == "NONE" or isinstance(last, str):
                values.append("" if last is None else str(last))
            elif name not in _BETWEEN:
                raise ValueError(f"unexpected {name}")
        raise ValueError("no end of the list")
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{source} holds pickled Python objects other than strings, which are not loaded "
            "because unpickling can run code. Save the names as a plain array: "
            "numpy.savez(file, names=numpy.asarray(names, dtype=str), embeddings=matrix)."
        ) from error
