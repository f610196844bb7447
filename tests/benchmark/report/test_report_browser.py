"""The page in a real browser, where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from scenc.benchmark import Results, write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

PROBE = """<!DOCTYPE html><iframe id="page" src="report.html"></iframe><pre id="found"></pre>
<script>
page.onload = () => {
  const inside = page.contentDocument, found = {};
  const tables = [...inside.querySelectorAll("table.sortable")];
  const table = tables.find((t) => t.tHead.textContent.includes("accuracy"));
  const heads = [...table.tHead.rows[0].cells];
  const column = heads.findIndex((head) => head.textContent.includes("accuracy"));
  const sorted = () => {
    heads[column].querySelector("button").click();
    return [heads[column].getAttribute("aria-sort"),
            ...[...table.tBodies[0].rows].map((row) => row.cells[column].textContent)];
  };
  inside.querySelectorAll("details").forEach((part) => (part.open = true));
  for (const width of [390, 1280]) {
    page.style.width = width + "px";
    const root = inside.documentElement;
    found[width] = [root.scrollWidth, root.clientWidth];
  }
  found.sorted = [sorted(), sorted()];
  found.images = [...inside.images].map((image) => image.complete && image.naturalWidth > 0);
  document.getElementById("found").textContent = JSON.stringify(found);
};
</script>"""


@pytest.fixture(scope="module")
def found(make_tables, tmp_path_factory):
    """What a script finds in the page at the width of a phone and of a desk."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    folder = tmp_path_factory.mktemp("browser")
    tables = make_tables(datasets=["a_data_set_with_quite_a_long_name", "b"], seeds=[0])
    scores = tables["scores"]
    scores.loc[(scores["encoding"] == "PCA"), "value"] = float("nan")
    write_report(Results.from_tables(**tables), folder / "report.html")
    (folder / "probe.html").write_text(PROBE, encoding="utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-web-security",
               "--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}",
               "--virtual-time-budget=5000", "--dump-dom"]  # fmt: skip
    page = (folder / "probe.html").as_uri()
    done = subprocess.run(
        [CHROMIUM, *options, page], capture_output=True, text=True, timeout=120, check=True
    )
    (text,) = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    return json.loads(unescape(text))


def test_in_a_browser_the_page_fits_and_sorts_and_shows_its_figures(found):
    # It is not wider than the screen.
    for width in ("390", "1280"):
        needed, there = found[width]
        assert needed <= there, width

    # A click sorts, a second one turns round.
    (up, *first), (down, *second) = found["sorted"]
    assert (up, down) == ("ascending", "descending")
    assert first[-1] == second[-1] == "undefined"
    assert len(first) == 12
    assert first[:-1] == sorted(first[:-1])
    assert second[:-1] == first[-2::-1]

    # The page's own policy lets all figures through.
    assert len(found["images"]) == 11
    assert all(found["images"])
