"""The order of the rooms: nothing imports upward, and nothing in a circle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import scenc

ROOT = Path(scenc.__file__).parent
# From the bottom up. A module may import from its own room and from those before it.
ROOMS = (
    "scenc._arguments",
    "scenc._distributed",
    "scenc._paths",
    "scenc._printing",
    "scenc._threads",
    "scenc._torch_settings",
    "scenc.io",
    "scenc.genes",
    "scenc.metrics",
    "scenc.data.counts",
    "scenc.data.tokens",
    "scenc.data.loading",
    "scenc.data.files",
    "scenc.data.store",
    "scenc.data.views",
    "scenc.data",
    "scenc.datasets",
    "scenc.nn._mlp",
    "scenc.nn.genes",
    "scenc.nn.expression",
    "scenc.nn",
    "scenc.train",
    "scenc.tasks",
    "scenc.model",
    "scenc.results",
    "scenc.pl",
    "scenc.benchmark.entries",
    "scenc.benchmark.jobs",
    "scenc.benchmark.report",
    "scenc.benchmark",
    "scenc",
    "scenc.cli",
)
# The version is known to the package itself only.
VERSION = ("scenc", "__version__")


def _name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in ROOT.rglob("*.py")}


def _imports(module):
    """Yield (module, name, whether for types only) of all imports from scenc, nested ones too."""
    path = MODULES[module]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            found = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        for source, name in found:
            if source.partition(".")[0] == "scenc" and (source, name) != VERSION:
                inner = f"{source}.{name}"
                yield (inner if inner in MODULES else source), name, id(node) in for_types


def _room(module):
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len)


def test_every_room_has_its_place():
    rooms = {module if path.name == "__init__.py" else module.rpartition(".")[0]
             for module, path in MODULES.items()}  # fmt: skip
    assert rooms <= set(ROOMS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nothing_imports_upward(module):
    for source, name, for_types in _imports(module):
        # Names of types may point upward where a function is handed what is made above.
        if not for_types:
            assert ROOMS.index(_room(source)) <= ROOMS.index(_room(module)), (source, name)


def test_there_is_no_circle():
    graph = {
        module: {source for source, _, for_types in _imports(module) if not for_types} - {module}
        for module in MODULES
    }
    # The face's names are imported at their first use.
    graph["scenc"] = set()
    TopologicalSorter(graph).prepare()
