"""Results to draw: anything that has the tables as attributes."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def closed_figures():
    """Draw in matplotlib's own style, whatever a matplotlibrc of the user's says."""
    with plt.rc_context():
        plt.rcdefaults()
        yield
        plt.close("all")


@pytest.fixture
def make_results(make_tables):
    """Return a maker of results from simulated tables, or from those given."""

    def make(tables=None, **settings):
        return SimpleNamespace(**(make_tables(**settings) if tables is None else tables))

    return make


@pytest.fixture
def results(make_results):
    """8 encodings, 2 controls and 2 baselines on 3 data sets with 2 seeds."""
    return make_results()


@pytest.fixture(scope="session")
def means_of():
    """Return a function that gives, by loops, an encoding's means over seeds by data set."""

    def means(scores, encoding, metric):
        values = {}
        for row in scores.itertuples():
            if (row.encoding, row.metric) == (encoding, metric) and row.value == row.value:
                values.setdefault(row.dataset, []).append(row.value)
        return [sum(of) / len(of) for of in values.values()]

    return means
