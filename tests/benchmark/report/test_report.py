"""The page: everything in it is right, escaped, and needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from scenc.benchmark import Results, published, write_report

RUN = {
    "title": "A test",
    "versions": {"scenc": "1.2.3", "torch": "9.9"},
    "settings": {
        "shared": {"model.d_model": 16, "training.betas": [0.9, 0.95]},
        "each": {"learned + soft": {"model.n_bins": 20}},
    },
    "training_data": {"sources": ["blood.h5ad"], "n_cells": 12345},
    "evaluation_sets": {"kang": {"source": "kang.h5ad", "n_cells": 2000, "min_cells": 50}},
    "gene_vectors": "text (MiniLM)",
    "scoring": {"metrics": None, "k": 10},
    "seeds": [0, 1],
    "machine": {"cores": 2, "gpus": []},
}
EVIL = "<script>alert('x')</script> & \"q\" $a$"


class Page(HTMLParser):
    """What a browser would see: tags with attributes, and tables as rows of (text, sort)."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.tables, self.text, self._cell = [], [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = ["", dict(attributes).get("data-sort"), dict(attributes).get("class", "")]
            self.tables[-1][-1].append(self._cell)

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data):
        self.text.append(data)
        if self._cell is not None:
            self._cell[0] += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def table(self, *heads):
        """The first table with these columns, as rows by column."""
        for table in self.tables:
            names = [cell[0].strip() for cell in table[0]]
            if {*heads} <= {*names}:
                return [
                    {name: cell[0].strip() for name, cell in zip(names, row, strict=True)}
                    for row in table[1:]
                ]
        raise AssertionError(f"no table with {heads}")


def row(table, **wanted):
    found = [r for r in table if all(r[name.replace("_", " ")] == v for name, v in wanted.items())]
    assert len(found) == 1, (wanted, found)
    return found[0]


@pytest.fixture(scope="module")
def results(make_tables):
    """Encodings of which one diverged and another failed, with a score undefined."""
    tables = make_tables(vectors="text (MiniLM)")
    jobs, scores = tables["jobs"], tables["scores"]
    at = jobs["job"] == "train/learned + hard/1"
    jobs.loc[at, ["status", "reason", "diverged_step"]] = ["diverged", "the loss rose", 59]
    lost = (jobs["encoding"] == "scVI") & (jobs["dataset"] == "liver")
    jobs.loc[lost, ["status", "reason"]] = ["failed", "RuntimeError: out of memory"]
    lost = (scores["encoding"] == "scVI") & (scores["dataset"] == "liver")
    scores.loc[lost, "reason"] = "RuntimeError: out of memory"
    scores.loc[lost, "value"] = np.nan
    none = (scores["dataset"] == "heart") & (scores["metric"] == "nmi")
    scores.loc[none, ["value", "reason"]] = [np.nan, "there is one label"]
    return Results.from_tables(**tables, run=RUN)


@pytest.fixture(scope="module")
def html(results, tmp_path_factory):
    return write_report(results, tmp_path_factory.mktemp("page") / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_nothing_is_loaded_from_elsewhere(page):
    for _, attributes in page.tags:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/svg+xml;base64,"))
    assert not page.of("link")
    assert not page.of("iframe")


def test_only_the_pages_own_style_and_script_may_run(html, page):
    policy = next(m["content"] for m in page.of("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_figures_are_images_with_words_for_those_who_do_not_see_them(page):
    images = page.of("img")
    assert len(images) == 11
    for image in images:
        assert len(image["alt"]) > 20
        svg = base64.b64decode(image["src"].partition(",")[2]).decode()
        assert "<svg" in svg
        assert "<script" not in svg
        width = float(re.search(r'width="([\d.]+)pt"', svg)[1])
        assert int(image["width"]) == pytest.approx(width * 96 / 72, abs=1)


def test_what_was_run_is_told(page):
    text = " ".join(" ".join(page.text).split())
    for words in (
        "A test",
        "8 encodings",
        "3 data sets",
        "2 seeds",
        "sources: blood.h5ad; cells: 12,345",
        "metrics: all; k: 10",
        "text (MiniLM), not the paper's ESM-2",
        "scenc 1.2.3",
        "torch 9.9",
    ):
        assert words in text
    assert row(page.table("data set", "source"), data_set="kang")["cells"] == "2,000"
    assert row(page.table("setting", "value"), setting="training.betas")["value"] == "0.9, 0.95"
    own = row(page.table("encoding", "setting"), encoding="learned + soft")
    assert (own["setting"], own["value"]) == ("model.n_bins", "20")


def test_means_are_those_of_the_results(page, results):
    table = page.table("encoding", "kind", "accuracy")
    assert len(table) == 12
    summary = results.summary().set_index(["encoding", "metric"])
    for line in table:
        found = summary.loc[(line["encoding"], "accuracy")]
        shown = f"{found['mean']:.3f} ± {found['std']:.3f}"
        if line["encoding"] == "scVI":
            shown += " (2 of 3)"
        assert line["accuracy"] == shown
        assert line["kind"] == found["kind"]


def test_the_lowest_validation_error_is_a_score(page, results):
    lowest = results.minimum_loss()
    for name in ("learned + soft", "text (MiniLM) + hard"):
        values = lowest.loc[lowest["encoding"] == name, "value"]
        line = row(page.table("encoding", "kind", "accuracy"), encoding=name)
        shown = line["lowest validation error (MSE)"]
        assert shown == f"{values.mean():.3f} ± {values.std():.3f}"


def test_the_best_of_those_on_all_data_sets_is_bold(page, results):
    summary = results.summary()
    summary = summary[(summary["metric"] == "accuracy") & (summary["n_datasets"] == 3)]
    table = next(t for t in page.tables if t[0][1][0] == "kind")
    column = [cell[0] for cell in table[0]].index("accuracy")
    bold = [line[0][0] for line in table[1:] if "best" in line[column][2]]
    assert bold == [summary.loc[summary["mean"].idxmax(), "encoding"]]


def test_every_score_on_every_data_set_is_there(page, results):
    table = page.table("encoding", "data set", "accuracy")
    assert len(table) == 36
    found = results.per_dataset().set_index(["encoding", "dataset", "metric"])
    line = row(table, encoding="PCA", data_set="kang")
    expected = found.loc[("PCA", "kang", "accuracy")]
    assert line["accuracy"] == f"{expected['value']:.3f} ± {expected['std']:.3f}"
    assert row(table, encoding="PCA", data_set="heart")["NMI"] == "undefined"


def test_cells_are_sorted_by_their_values(page):
    for table in page.tables:
        for line in table[1:]:
            for text, sort, _ in line:
                if text in ("undefined", "", "not in this run"):
                    assert sort is None
                elif re.fullmatch(r"[+−]?[\d.,]+( ±.*| \[.*| %.*)?", text):
                    number = float(
                        re.match(r"[+−]?[\d.,]+", text)[0].replace("−", "-").replace(",", "")
                    )
                    scale = 100 if "%" in text else 1
                    if "lower" not in text:
                        assert float(sort) == pytest.approx(number / scale, abs=0.06)


def test_differences_come_with_intervals(page, results):
    line = row(
        page.table("a over b", "within"),
        a_over_b="soft over hard",
        within="learned",
        score="accuracy",
    )
    found = results.bootstrap(2000, metrics=["accuracy"])
    found = found[(found["comparison"] == "soft over hard") & (found["within"] == "learned")].iloc[
        0
    ]
    shown = f"{found['difference']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
    assert line["a - b"] == shown.replace("-", "−")
    assert line["relative to b"].startswith(f"{100 * found['relative']:+.1f} %".replace("-", "−"))
    assert (line["data sets"], line["seeds"]) == ("3", "2")


def test_divergences_are_dated_and_failures_give_their_reason(page):
    table = page.table("what", "at step")
    line = row(table, what="diverged")
    assert line["encoding"] == "learned + hard"
    assert (line["seed"], line["at step"], line["reason"]) == ("1", "59", "the loss rose")
    failed = [line for line in table if line["what"] == "failed"]
    assert {line["encoding"] for line in failed} == {"scVI"}
    assert {line["reason"] for line in failed} == {"RuntimeError: out of memory"}


def test_undefined_scores_say_why(page):
    table = page.table("reason", "how many")
    assert row(table, reason="there is one label")["how many"] == str(12 * 2)
    assert "RuntimeError: out of memory" not in {line["reason"] for line in table}


def test_published_and_own_numbers_stand_side_by_side_and_apart(page, results):
    table = page.table("published", "this run")
    line = row(table, quantity="learned + soft", score="macro F1")
    found = results.summary().set_index(["encoding", "metric"]).loc[("learned + soft", "macro_f1")]
    assert line["published"] == "86.0 %"
    assert line["this run"] == f"{100 * found['mean']:.1f} ± {100 * found['std']:.1f} %"
    line = row(table, quantity="soft over hard, learned genes", score="biological preservation")
    means = results.summary().set_index(["encoding", "metric"])["mean"]
    a, b = (means[f"learned + {e}", "bio_preservation"] for e in ("soft", "hard"))
    assert line["published"] == "+79.2 %"
    assert line["this run"].startswith(f"{100 * (a / b - 1):+.1f} %".replace("-", "−"))
    rows = next(t for t in page.tables if "published" in [cell[0] for cell in t[0]])[1:]
    assert {cell[2].split()[0] for cell in (line[2] for line in rows)} == {"published"}
    assert not [line for line in rows if "published" in line[3][2]]


def test_errors_of_both_gene_encoders_stand_beside_the_papers(page, results):
    table = page.table("published", "this run")
    lowest = results.minimum_loss().merge(results.encodings, on="encoding")
    lowest = lowest[lowest["kind"] == "encoding"]
    for genes, word, theirs in (
        ("learned", "learned", "0.046"),
        ("protein", "pretrained", "0.058"),
    ):
        line = row(table, quantity=f"{word} genes, mean of encodings")
        ours = lowest.loc[lowest["gene_encoder"] == genes, "value"].mean()
        assert (line["published"], line["this run"]) == (theirs, f"{ours:.3f}")


def test_divergences_stand_beside_the_papers(page):
    line = row(page.table("published", "this run"), quantity="encodings whose loss diverged")
    assert line["published"].startswith("5 of 8: learned + hard, ESM-2 + raw")
    assert line["this run"] == "1 of 8: learned + hard (1 of 2 seeds)"


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.1, 0.2, "the same"),
        (-0.2, -0.1, "the opposite"),
        (-0.1, 0.1, "undecided"),
        (0.1, 0.1, "no interval"),
    ],
)
def test_a_direction_is_told_only_where_the_interval_has_one(low, high, word):
    from scenc.benchmark.report._published import _direction

    assert _direction(0.792, low, high).text == word
    assert _direction(-0.21, -high, -low).text == word


def test_the_papers_numbers():
    table = published().set_index(["kind", "subject", "metric"]).sort_index()
    assert "Sadalski" in published().attrs["source"]
    soft = table.loc[("mean", "learned + soft")]
    assert soft["value"].to_dict() == {
        "bio_preservation": 0.55, "batch_correction": 0.67, "accuracy": 0.916, "macro_f1": 0.86
    }  # fmt: skip
    assert soft.loc[["bio_preservation", "batch_correction"], "spread"].tolist() == [0.07, 0.11]
    genes = table.loc[("relative", "learned over protein"), "value"]
    assert genes.to_dict() == {
        "bio_preservation": 0.29, "batch_correction": 0.08, "accuracy": 0.31, "macro_f1": 0.58,
        "training_mse": -0.21,
    }  # fmt: skip
    # The printed errors give the printed difference.
    learned, protein = (
        table.loc[("group mean", g), "value"].item() for g in ("learned", "protein")
    )
    assert round(learned / protein - 1, 2) == -0.21


def test_users_names_are_words_and_nothing_else(make_tables, tmp_path):
    tables = make_tables(datasets=["kang"], seeds=[0])
    few = ["learned + soft", "learned + hard", "PCA"]
    tables = {name: table[table["encoding"].isin(few)].copy() for name, table in tables.items()}
    for table in tables.values():
        table["encoding"] = table["encoding"].replace({"PCA": EVIL, "learned + hard": EVIL + "2"})
    tables["scores"]["dataset"] = EVIL
    tables["scores"]["reason"] = tables["jobs"]["reason"] = EVIL
    tables["jobs"]["status"] = "failed"
    tables["scores"].loc[tables["scores"]["metric"] == "nmi", "metric"] = EVIL
    run = {
        "title": EVIL + "\ud800",
        EVIL: EVIL,
        "versions": {EVIL: EVIL},
        "gene_vectors": EVIL,
        "settings": {"shared": {EVIL: EVIL}},
        "evaluation_sets": {EVIL: {EVIL: EVIL}},
    }
    path = write_report(Results.from_tables(**tables, run=run), tmp_path / "report.html")
    page = Page(path.read_text("utf-8"))
    assert len(page.of("script")) == 1
    assert " ".join(page.text).count(EVIL) > 20
    for image in page.of("img"):
        assert b"<script" not in base64.b64decode(image["src"].partition(",")[2])


def one_score():
    return pd.DataFrame(
        {"encoding": ["mine"], "dataset": ["d"], "metric": ["accuracy"], "value": [0.5]}
    )


@pytest.mark.parametrize("rows", [0, 1])
def test_little_is_enough(tmp_path, rows):
    results = Results.from_tables(one_score().iloc[:rows])
    page = Page(write_report(results, tmp_path / "report.html").read_text("utf-8"))
    text = " ".join(" ".join(page.text).split())
    assert "The results do not say how they were made" in text
    assert "There are no training curves" in text
    assert ("hold nothing to draw" in text) == (rows == 0)
    ours = {line["this run"] for line in page.table("published", "this run")}
    assert ours == {"not in this run"}


def test_a_run_that_goes_on_is_said_to(make_tables, tmp_path):
    jobs = make_tables(datasets=["kang"], seeds=[0])["jobs"]
    jobs.loc[:3, "status"] = "pending"
    results = Results.from_tables(one_score(), jobs=jobs)
    html = write_report(results, tmp_path / "report.html").read_text("utf-8")
    assert f"4 of {len(jobs)} jobs are still to be done" in html


def test_odd_runs_are_shown_as_they_are(tmp_path):
    nested = {}
    for _ in range(500):
        nested = {"deeper": nested}
    run = {"versions": 3, "settings": [1], "evaluation_sets": [2], "nested": nested, "flag": True}
    path = write_report(Results.from_tables(one_score(), run=run), tmp_path / "report.html")
    text = " ".join(" ".join(Page(path.read_text("utf-8")).text).split())
    assert "deeper: …" in text
    assert "flag yes" in text


def test_a_folder_gets_its_page(tmp_path):
    Results.from_tables(one_score(), run={"title": "In a folder"}).write(tmp_path)
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    assert "In a folder" in path.read_text("utf-8")
    assert not list(tmp_path.glob(".*"))


def test_figures_are_written_on_demand(tmp_path):
    write_report(Results.from_tables(one_score()), tmp_path / "page.html", tmp_path / "figures")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    kinds = ("pdf", "svg", "png")
    assert names == {f"{name}.{kind}" for name in ("accuracy", "encodings") for kind in kinds}


def test_mistakes_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no results"):
        write_report(tmp_path)
    with pytest.raises(TypeError, match="out must name a file"):
        write_report(Results.from_tables(one_score()))
    with pytest.raises(IsADirectoryError, match=r"such as report\.html"):
        write_report(Results.from_tables(one_score()), tmp_path)


def test_a_users_style_does_not_change_the_page(tmp_path):
    import matplotlib.pyplot as plt

    plt.close("all")
    results = Results.from_tables(one_score())
    before = write_report(results, tmp_path / "a.html").read_bytes()
    with plt.style.context("dark_background"):
        assert write_report(results, tmp_path / "b.html").read_bytes() == before
    assert not plt.get_fignums()


def test_the_page_is_what_the_tables_on_disk_say(make_tables, tmp_path):
    tables = make_tables(seeds=[0])
    scores = tables["scores"]
    results = Results.from_tables(scores[scores["metric"] == "nmi"], jobs=tables["jobs"], run=RUN)
    given = write_report(results, tmp_path / "given.html").read_text("utf-8")
    results.write(tmp_path)
    assert json.loads((tmp_path / "run.json").read_text("utf-8")) == RUN
    read = write_report(tmp_path).read_text("utf-8")
    assert Page(read).tables == Page(given).tables


def test_budgets_have_a_figure_and_tables(make_budget_tables, tmp_path):
    results = Results.from_tables(**make_budget_tables())
    page = Page(write_report(results, tmp_path / "page.html").read_text("utf-8"))
    table = page.table("encoding", "visits", "macro F1")
    assert len(table) == 10 * 3
    means = results.summary().set_index(["encoding", "budget", "metric"])["mean"]
    for visits in (25_000, 250_000):
        found = row(table, encoding="learned + soft", visits=f"{visits:,}")["macro F1"]
        assert found.startswith(f"{means['learned + soft', visits, 'macro_f1']:.3f} ±")
    # The other tables are of the largest budget.
    found = row(page.table("encoding", "kind", "macro F1"), encoding="learned + soft")["macro F1"]
    assert found.startswith(f"{means['learned + soft', 250_000, 'macro_f1']:.3f} ±")
    differences = [row["visits"] for row in page.table("visits", "a over b")]
    assert set(differences) == {"250,000"}
    assert any("by visits of cells" in of.get("alt", "") for of in page.of("img"))


def test_negative_controls_have_a_table(make_tables, tmp_path):
    rows = [("genes", "accuracy", 0.9, 0.3), ("labels", "nmi", 0.5, 0.01)]
    checks = pd.DataFrame(rows, columns=["shuffled", "metric", "intact", "value"])
    checks = checks.assign(encoding="learned + soft", dataset="kang")
    results = Results.from_tables(**make_tables(), checks=checks)
    page = Page(write_report(results, tmp_path / "page.html").read_text("utf-8"))
    table = page.table("shuffled", "as it is", "share worse")
    assert row(table, shuffled="genes")["with it shuffled"] == "0.300"
    assert row(table, shuffled="labels")["share worse"] == "100%"
