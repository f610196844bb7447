"""``scenc report``, run as a user runs it."""

import subprocess
import sys

import pandas as pd
import pytest

from scenc.benchmark import Results
from scenc.cli import main

LIGHT = """
import sys
from scenc.cli import main
sys.argv = ["scenc", "report", "nowhere"]
try:
    main()
except SystemExit as stopped:
    assert stopped.code == 1
heavy = {"scvi", "torch", "scanpy", "lightning", "jax", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process: exit code, output, errors."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["scenc", "report", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err.strip().splitlines()

    return call


@pytest.fixture
def folder(tmp_path):
    scores = {"encoding": ["mine"], "dataset": ["d"], "metric": ["accuracy"], "value": [0.625]}
    Results.from_tables(pd.DataFrame(scores)).write(tmp_path / "results")
    return tmp_path / "results"


def test_a_folder_of_results_becomes_a_page(run, folder):
    code, out, err = run(folder)
    assert (code, err) == (0, [])
    assert out.startswith(f"wrote {folder / 'report.html'}")
    assert "0.625" in (folder / "report.html").read_text("utf-8")


def test_page_and_figures_go_where_they_are_told(run, folder, tmp_path):
    code, out, _ = run(folder, "--out", tmp_path / "page.html", "--figures", tmp_path / "figures")
    assert code == 0
    assert f"wrote the figures to {tmp_path / 'figures'}" in out
    assert (tmp_path / "figures" / "accuracy.pdf").is_file()
    assert (tmp_path / "page.html").is_file()
    assert not (folder / "report.html").exists()


def test_mistakes_are_one_line(run, folder, tmp_path):
    for given, message in (
        (tmp_path / "nowhere", "nowhere does not exist."),
        (folder / "scores.csv", "scores.csv is a file; give the folder it is in."),
        (tmp_path, "holds no results: neither scores.parquet nor scores.csv is there."),
    ):
        code, out, err = run(given)
        assert (code, out, len(err)) == (1, "", 1)
        assert err[0].endswith(message)


def test_a_mistake_waits_for_nothing_heavy():
    subprocess.run([sys.executable, "-W", "error", "-c", LIGHT], check=True, capture_output=True)
