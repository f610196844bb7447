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
