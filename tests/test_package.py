from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import scenc


def python(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )


def test_import_is_silent_and_light():
    done = python(
        "import sys, scenc; scenc.__version__; dir(scenc); "
        "print({'torch', 'scvi', 'scanpy', 'anndata', 'lightning'} & set(sys.modules))"
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_public_names_resolve():
    assert scenc.__version__ == version("scenc")
    for name in scenc.__all__:
        assert name in dir(scenc)
        assert getattr(scenc, name).__name__.rpartition(".")[-1] == name


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'Modell'"):
        _ = scenc.Modell
