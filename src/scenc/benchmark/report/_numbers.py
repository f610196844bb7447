from __future__ import annotations

from importlib.resources import files
from io import StringIO

import pandas as pd


def published() -> pd.DataFrame:
    """Return the numbers that the paper printed.

    Returns
    -------
    One row per number: ``kind`` (``"mean"`` of an encoding over data sets, ``"group mean"`` over
    the encodings of one gene encoder, ``"relative"`` difference, or ``"diverged"``: the encoding's
    loss did), ``subject``, ``within``, ``metric``, ``value`` and ``spread`` (standard deviation
    over data sets) as fractions, ``printed`` (as the paper has it), ``figure`` (of the paper, that
    shows the quantity). The source is in ``attrs["source"]``.

    Examples
    --------
    >>> from scenc.benchmark import published
    >>> table = published()
    >>> table.loc[(table["kind"] == "mean") & (table["metric"] == "accuracy"), "value"].item()
    0.916
    """
    file = files("scenc.benchmark.report").joinpath("published.csv").read_text("utf-8")
    source, _, rows = file.partition("\n")
    words = dict.fromkeys(("kind", "subject", "within", "metric", "printed", "figure"), "string")
    table = pd.read_csv(
        StringIO(rows),
        dtype=words,
        keep_default_na=False,
        na_values={"value": [""], "spread": [""]},
    )
    table.attrs["source"] = source.removeprefix("# ")
    return table
