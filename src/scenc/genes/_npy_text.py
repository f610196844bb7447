from __future__ import annotations

import pickletools
from typing import IO

import numpy as np

#: the only words in numpy's own pickle of an object array, besides its content
_NUMPY_WORDS = {"numpy._core.multiarray", "numpy.core.multiarray", "_reconstruct", "numpy",
                "ndarray", "dtype", "O8", "O4", "|", "O", "b"}  # fmt: skip
_NUMPY_GLOBALS = {"numpy._core.multiarray _reconstruct", "numpy.core.multiarray _reconstruct",
                  "numpy ndarray", "numpy dtype"}  # fmt: skip
_TEXT = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_PUT = ("BINPUT", "LONG_BINPUT")
_GET = ("BINGET", "LONG_BINGET")
_IN_HEAD = {*_TEXT, "PROTO", "FRAME", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "MARK", "NONE",
            "BININT", "BININT1", "BININT2", "TUPLE", "TUPLE1", "TUPLE3", "SHORT_BINBYTES",
            "NEWFALSE", "NEWTRUE", "EMPTY_LIST", *_GET}  # fmt: skip
_IN_LIST = {*_TEXT, *_PUT, *_GET, "MEMOIZE", "MARK", "APPEND", "APPENDS", "FRAME", "NONE"}
_AFTER = {"TUPLE", "BUILD", "STOP", *_PUT, "MEMOIZE"}


def read_text_array(stream: IO[bytes], source: str) -> list[str]:
    """Read a one-dimensional ``.npy`` array of strings, whichever way it was saved.

    ``numpy.save`` pickles arrays of Python strings (dtype object), and unpickling can run code. The
    pickle is not loaded here: its instructions are listed and the strings between them collected,
    if they are exactly those of an array of strings; anything else is refused.

    Parameters
    ----------
    stream
        The content of a ``.npy`` file.
    source
        What to call it in errors.

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
        values = _strings(stream.read(), source)
    elif dtype.kind in "US":
        data = np.frombuffer(stream.read(), dtype=dtype)
        values = [v.decode() if isinstance(v, bytes) else str(v) for v in data.tolist()]
    else:
        raise ValueError(f"{source} must hold names, but its type is {dtype}.")
    if len(values) != shape[0]:
        raise ValueError(f"{source} is damaged: {len(values):,} names where {shape[0]:,} belong.")
    return values


def _strings(pickled: bytes, source: str) -> list[str]:
    memo: dict[int, str | None] = {}
    values: list[str] = []
    last: str | None = None
    stage = "head"
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            name = opcode.name
            if name in _PUT and isinstance(argument, int):
                memo[argument] = last
            elif name == "MEMOIZE":
                memo[len(memo)] = last
            else:
                last = _text(name, argument, memo)
                stage = _next_stage(stage, name, argument, last)
                if stage == "list" and name in (*_TEXT, *_GET, "NONE"):
                    values.append(_value(name, last))
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{source} holds pickled Python objects other than strings, which are not loaded "
            "because unpickling can run code. Save the names as a plain array: "
            "numpy.savez(file, names=numpy.asarray(names, dtype=str), embeddings=matrix)."
        ) from error
    return values


def _text(name: str, argument: object, memo: dict[int, str | None]) -> str | None:
    if name in _TEXT:
        return str(argument)
    if name in _GET and isinstance(argument, int):
        return memo[argument]
    return None


def _next_stage(stage: str, name: str, argument: object, text: str | None) -> str:
    """Follow the three parts of the pickle: array type, list of values, end."""
    if stage == "head":
        known = name in _IN_HEAD and (text is None or text in _NUMPY_WORDS)
        if not known or (name == "GLOBAL" and argument not in _NUMPY_GLOBALS):
            raise ValueError(f"unexpected {name} {argument!r}")
        return "list" if name == "EMPTY_LIST" else "head"
    if stage == "list" and name in _IN_LIST:
        return "list"
    if name in _AFTER:
        return "end"
    raise ValueError(f"unexpected {name}")


def _value(name: str, text: str | None) -> str:
    if name == "NONE":
        return ""
    if text is None:
        raise ValueError("a reference to something that is no string")
    return text
