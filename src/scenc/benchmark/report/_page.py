"""The page, made of its tables, figures and template."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from scenc import __version__
from scenc.benchmark.report import _facts as facts
from scenc.benchmark.report import _results_tables as tables
from scenc.benchmark.report._figures import figure_specs, picture, save_all
from scenc.benchmark.report._published import beside, published

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from scenc.benchmark.report._page_table import Table
    from scenc.results import Results

_N_SAMPLES = 2000  # of the bootstrap


class Page:
    """A benchmark's results as one page.

    Parameters
    ----------
    results
        The results.
    """

    def __init__(self, results: Results) -> None:
        self.results = tables.with_training_error(results.at_budget())
        there = {*self.results.metrics}
        main = [metric for metric in tables.MAIN if metric in there]
        self.intervals = self.results.bootstrap(_N_SAMPLES, metrics=main)
        self._given = results
        self._at_budgets = self._intervals_at_budgets(main)

    def html(self) -> str:
        """Return the page."""
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        style, script = _asset("page.css"), _asset("page.js")
        return environment.from_string(_asset("page.html.jinja")).render(
            style=style,
            script=script,
            style_hash=_digest(style),
            script_hash=_digest(script),
            version=__version__,
            **self._contents(),
        )

    def save_figures(self, folder: Path) -> list[Path]:
        """Write the figures of the page as PDF, SVG and PNG."""
        return save_all(self._given, self.intervals, folder)

    def _contents(self) -> dict[str, Any]:
        given, run = self._given, self._given.run
        among, baselines = _split(self.intervals)
        return {
            "title": str(run.get("title") or "Encoding benchmark"),
            "headline": facts.headline(given),
            "pending": int((given.jobs["status"] == "pending").sum()),
            "n_jobs": len(given.jobs),
            "facts": facts.facts(run),
            "gene_vectors": facts.words(vectors) if (vectors := run.get("gene_vectors")) else "",
            "sets": facts.set_table(run),
            "settings": facts.setting_tables(run),
            "versions": facts.versions(run),
            "pictures": {spec.name: picture(spec) for spec in figure_specs(given, self.intervals)},
            "summaries": self._summaries(),
            "budget": f"{max(self.results.budgets):,}" if self.results.budgets else "",
            "by_budget": tables.budget_table(given, [*tables.MAIN, "reconstruction_mse"]),
            "negative": tables.negative_table(given),
            "at_budgets": tables.difference_table(self._at_budgets, "Differences at each budget"),
            "datasets": tables.dataset_table(self.results),
            "among": tables.difference_table(among, "Differences between encodings"),
            "baselines": tables.difference_table(baselines, "Encodings over baselines"),
            "trouble": tables.trouble_table(given.jobs),
            "undefined": tables.undefined_table(given.scores, given.jobs),
            "cost": tables.cost_table(given.jobs),
            "published": beside(self.results, self.intervals),
            "source": published().attrs["source"],
        }

    def _intervals_at_budgets(self, metrics: list[str]) -> pd.DataFrame:
        """Return the differences between encodings at each budget, if there are several."""
        several = len(self._given.budgets) > 1
        wanted = [metric for metric in metrics if metric in self._given.metrics] if several else []
        return _split(self._given.bootstrap(_N_SAMPLES, metrics=wanted))[0]

    def _summaries(self) -> list[Table]:
        from scenc.metrics import BATCH_CORRECTION, BIO_PRESERVATION

        main = [*tables.MAIN, "reconstruction_mse"]
        parts = [*BATCH_CORRECTION, *BIO_PRESERVATION]
        known = {*main, *parts}
        others = [metric for metric in self.results.metrics if metric not in known]
        made = [
            tables.summary_table(self.results, main, "Scores of all encodings"),
            tables.summary_table(self.results, parts, "The scores behind the two means"),
            tables.summary_table(self.results, others, "Other scores"),
        ]
        return [table for table in made if len(table.heads) > 2]


def _split(intervals: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    baseline = intervals["comparison"].str.startswith("encoding over ")
    return intervals[~baseline], intervals[baseline]


def _asset(name: str) -> str:
    return files("scenc.benchmark.report").joinpath(name).read_text("utf-8")


def _digest(content: str) -> str:
    """Return the hash by which the page's security policy allows its style and script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode("ascii")
