"""How Sphinx builds the documentation; needs no network."""

from __future__ import annotations

import base64
import json
import re
import sys
from dataclasses import asdict, is_dataclass
from importlib import import_module
from inspect import isclass
from pathlib import Path
from typing import Any

from sphinx.ext import autosummary

import scenc
from scenc.model import PRESETS, get_preset
from scenc.nn import ModelConfig
from scenc.train import TrainConfig

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "scenc"
author = "The scenc developers"
copyright = f"2026, {author}"
version = release = scenc.__version__

extensions = [
    "mathml",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "jupyter_execute", "**/.ipynb_checkpoints"]
templates_path = ["_templates"]

# Pages: Markdown and executed notebooks. CI runs the notebooks (run_notebooks.py), Sphinx does not.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_merge_streams = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# The reference: from docstrings in numpy style, types from signatures.
default_role = "py:obj"
autosummary.WELL_KNOWN_ABBREVIATIONS += ("eq.",)  # ends no sentence
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "inherited-members": True}
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
typehints_defaults = "comma"
always_use_bars_union = True
# A link to one of our own names must lead somewhere; those of other projects are not linked.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!scenc\.).*"),
    # Types of private modules, which have no page.
    (r"py:.*", r"scenc\.([a-z]+\.)*_.*"),
]

html_theme = "sphinx_book_theme"
toc_object_entries_show_parents = "hide"
html_math_renderer = "mathml"
html_title = f"scenc {version}"
html_static_path = ["_static"]
html_css_files = ["scenc.css"]
html_extra_path = ["llms.txt"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navbar_persistent": [],
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "pygments_light_style": "tango",
}

_MODULES = ["benchmark", "data", "datasets", "genes", "metrics", "model", "nn", "pl", "train"]


def _public_names() -> dict[Any, str]:
    """Return the name under which each of our classes is documented."""
    names = {}
    for module in (import_module(f"scenc.{name}") for name in _MODULES):
        for name in module.__all__:
            if isclass(member := getattr(module, name)):
                names[member] = f"{module.__name__}.{name}"
    return {**names, scenc.Model: "scenc.Model"}


_PUBLIC = _public_names()


def typehints_formatter(annotation: Any, config: Any) -> str | None:
    """Write our own classes by their public names, so that they are links."""
    if isclass(annotation) and annotation in _PUBLIC:
        return f":py:class:`~{_PUBLIC[annotation]}`"
    return None


def _presets_table() -> str:
    """Return all settings of all presets as a Markdown table, the defaults filled in."""
    settings = {
        name: asdict(ModelConfig(**preset.model)) | asdict(TrainConfig(**preset.train))
        for name, preset in ((name, get_preset(name)) for name in PRESETS)
    }
    shown = [  # in the order of Table 1 of the paper
        "d_model", "n_layers", "n_heads", "d_feedforward", "dropout", "context", "target_sum",
        "objective", "n_top_genes", "seed", "max_epochs", "cell_visits", "batch_size",
        "accumulate_grad_batches", "lr", "weight_decay",
        "betas", "gradient_clip", "warmup_steps", "mask_fraction", "validation_size", "test_size",
        "patience",
    ]  # fmt: skip
    rows = [["", *(f'`"{name}"`' for name in settings)], ["---"] * (1 + len(settings))]
    for key in shown:
        rows.append([f"`{key}`", *(_number(values[key]) for values in settings.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _number(value: Any) -> str:
    return f"{value:,g}" if isinstance(value, float | int) else str(value)


myst_substitutions = {"presets": _presets_table()}


def _write_pictures() -> dict[str, str]:
    """Write pictures from the outputs of tutorials; return those of functions, by the function.

    The picture of a tutorial's card is the output of the cell tagged ``thumbnail``; that of a
    function of `scenc.pl` is the output of the first cell that calls it.
    """
    here = Path(__file__).parent
    folder = here / "generated" / "thumbnails"
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, str] = {}
    for path in sorted((here / "tutorials").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            outputs = [output.get("data", {}) for output in cell.get("outputs", ())]
            pictures = [data["image/png"] for data in outputs if "image/png" in data]
            if not pictures:
                continue
            names = {path.stem} if "thumbnail" in cell["metadata"].get("tags", ()) else set()
            names |= {*re.findall(r"scenc\.pl\.\w+", "".join(cell["source"]))} - drawn.keys()
            for name in names:  # without the card's, Sphinx warns of the picture that is missing
                (folder / f"{name}.png").write_bytes(base64.b64decode(pictures[-1]))
                drawn[name] = f"thumbnails/{name}.png"
    return drawn


# What plot functions draw, shown on their pages (_templates/autosummary/base.rst): as in other
# pages where it is there, else as drawn by plots.py.
autosummary_context = {
    "pictures": {
        "scenc.pl.mapping": "/_static/mapping.png",
        "scenc.pl.integration": "/_static/replication/integration.svg",
        "scenc.pl.classification": "/_static/replication/classification.svg",
        "scenc.pl.reconstruction": "/_static/replication/reconstruction.svg",
        "scenc.pl.training_curves": "/_static/replication/training.svg",
        "scenc.pl.budgets": "/_static/replication/budgets.svg",
        "scenc.pl.differences": "/_static/plots/differences.svg",
        "scenc.pl.published_encodings": "/_static/plots/published_encodings.png",
        **_write_pictures(),
    }
}


def _fields_are_parameters(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Show the attributes of a dataclass as the parameters they are, with types and defaults."""
    if (
        what == "class"
        and is_dataclass(obj)
        and "Parameters" not in lines
        and "Attributes" in lines
    ):
        at = lines.index("Attributes")
        lines[at : at + 2] = ["Parameters", "----------"]


def _skip_foreign(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what comes from other packages, such as the methods of `torch.nn.Module`."""
    function = getattr(obj, "fget", None) or getattr(obj, "func", None) or obj
    function = getattr(function, "__func__", function)
    module = getattr(function, "__module__", None)
    foreign = callable(function) and module is not None and not module.startswith("scenc")
    return True if foreign or name == "setup_annbatch" else None


def setup(app: Any) -> None:
    """Connect the functions above."""
    app.connect("autodoc-process-docstring", _fields_are_parameters, priority=400)
    app.connect("autodoc-skip-member", _skip_foreign)
