from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from numpy.typing import NDArray

    Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


@pytest.fixture(scope="session")
def recipe() -> ModuleType:
    """The script that made the reference values: it holds the recipe of their input."""
    path = Path(__file__).with_name("make_scib_reference.py")
    spec = importlib.util.spec_from_file_location("make_scib_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def reference() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("scib_reference.json").read_text())


@pytest.fixture(scope="session")
def real(recipe: ModuleType, request: pytest.FixtureRequest) -> Callable[[str], Arrays]:
    """Return a reader of a real data set's embedding, batch and labels."""
    loaded: dict[str, Arrays] = {}

    def load(name: str) -> Arrays:
        if name not in loaded and name == recipe.SHIPPED:
            loaded[name] = recipe.load_shipped()
        elif name not in loaded:
            loaded[name] = recipe.load(request.getfixturevalue("shared_data"), name)
        return loaded[name]

    return load


@pytest.fixture
def blobs() -> Arrays:
    """90 cells, three labels apart from each other, two batches; "rare" is in batch "x" only."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["common", "other", "rare"], [40, 30, 20])
    embedding = rng.normal(size=(90, 4)) + 3 * np.repeat([0, 1, 2], [40, 30, 20])[:, None]
    batch = np.where(labels == "rare", "x", rng.choice(["x", "y"], size=90))
    return embedding, batch, labels
