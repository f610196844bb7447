"""Pages keep their promises: code on them runs, messages are the package's, lists are complete."""

from __future__ import annotations

import re
from pathlib import Path

import anndata
import numpy as np
import pytest

import scenc

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
if not DOCS.is_dir():
    pytest.skip("needs docs/, which is not part of a distribution", allow_module_level=True)


def test_error_messages_are_those_of_the_package():
    source = " ".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    # Literals that go on in the next line, and placeholders, are cut out.
    source = re.sub(r'"\s+f?"', "", source)
    page = (DOCS / "errors.md").read_text("utf-8").partition("## Memory")[0]
    messages = re.findall(r"^`.*`(?: \(warning\))?$", page, re.MULTILINE)
    assert len(messages) > 40
    missing = [
        piece
        for message in messages
        for quoted in re.findall(r"`(.*?)`", message)
        for piece in re.split(r"…|\(…\)|\[…\]", quoted)
        if len(piece.strip(" .,:;")) > 3 and piece.strip(" .,:;") not in source
    ]
    assert not missing


def test_llms_txt_lists_every_page():
    listed = set(re.findall(r"\((\w+)\.html\)", (DOCS / "llms.txt").read_text("utf-8")))
    pages = {path.stem for path in DOCS.glob("*.md")}
    assert listed == pages


def test_links_of_the_readme_lead_somewhere():
    """Those of pages are held by Sphinx, which does not read this one."""
    text = (ROOT / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    links = [link for link in links if "://" not in link]
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text("utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"\W+", "-", heading.lower()) for heading in headings], link


def test_commands_on_pages_have_the_options_they_are_given():
    from typer.main import get_command

    from scenc.cli import app

    shown = [
        line
        for path in [ROOT / "README.md", *DOCS.glob("*.md")]
        for line in re.findall(r"scenc [a-z][^\n`#]*", path.read_text("utf-8").replace("\\\n", ""))
        if " --" in line
    ]
    assert len(shown) > 20
    for line in shown:
        command, words = get_command(app), line.split()[1:]
        while words and words[0] in getattr(command, "commands", ()):
            command = command.commands[words.pop(0)]
        known = {name for option in command.params for name in option.opts + option.secondary_opts}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= known, line


@pytest.fixture(scope="module")
def user_folder(tmp_path_factory):
    """A folder with cells of a user's own, to run a page's code in."""
    folder = tmp_path_factory.mktemp("user")
    cells = scenc.datasets.pbmc68k()
    rng = np.random.default_rng(0)
    names = {"CD19+ B": "B", "CD14+ Monocyte": "Monocyte", "CD56+ NK": "NK"}
    cells.obs["cell_type"] = cells.obs["cell_type"].astype(str).map(names)
    cells = cells[cells.obs["cell_type"].notna()].copy()
    cells.obs["donor"] = rng.choice(["d1", "d2"], size=cells.n_obs)
    cells[::2].copy().write_h5ad(folder / "my_cells.h5ad")
    cells[1::2].copy().write_h5ad(folder / "new_cells.h5ad")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", ["howto", "choose"])
@pytest.mark.filterwarnings("ignore")
def test_code_of_a_page_runs(page, user_folder, monkeypatch):
    """Blocks run from top to bottom, as a reader would, with training cut short."""
    train = scenc.Model.train

    def short(self, *args, **settings):
        settings["cell_visits"] = 500
        train(self, *args, enable_progress_bar=False, **settings)

    monkeypatch.setattr(scenc.Model, "train", short)
    monkeypatch.chdir(user_folder)
    text = (DOCS / f"{page}.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    names = {"scenc": scenc, "adata": anndata.read_h5ad("my_cells.h5ad")}
    for block in blocks:
        exec(compile(block, f"{page}.md", "exec"), names)
