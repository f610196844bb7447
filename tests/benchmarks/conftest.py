"""The scripts of benchmarks/, which are no package and are not in a source distribution."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Return a function that imports a script by its name."""
    if not FOLDER.exists():
        pytest.skip("needs the folder benchmarks/ of a checkout")
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module
