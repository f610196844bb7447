"""Entries: encodings, baselines and users' methods behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from scenc._arguments import choose, refuse_unknown
from scenc.benchmark.entries._encodings import Encoding
from scenc.benchmark.entries._methods import PCA, SCVI, Method, Untrained, method_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scenc.benchmark.entries._encodings import Kind

BASELINES = ("PCA", "scVI", "untrained")


@dataclass(frozen=True, eq=False)
class Entry:
    """One row of the tables, before data sets and seeds.

    Attributes
    ----------
    name
        Display name, unique.
    kind
        ``"encoding"``, ``"control"`` or ``"baseline"``.
    method
        An `Encoding`, an `Untrained` one, or any other method.
    """

    name: str
    kind: Kind
    method: Encoding | Untrained | Method

    @property
    def encoding(self) -> Encoding | None:
        """The scenc model behind it, if there is one."""
        if isinstance(self.method, Untrained):
            return self.method.encoding
        return self.method if isinstance(self.method, Encoding) else None

    @property
    def gene_encoder(self) -> str | None:
        """``"learned"`` or ``"protein"``; None if it is no encoding."""
        return self.method.gene_encoder if isinstance(self.method, Encoding) else None

    @property
    def expression_encoder(self) -> str | None:
        """``"raw"``, ``"hard"``, ``"log"`` or ``"soft"``; None if it is no encoding."""
        return self.method.expression_encoder if isinstance(self.method, Encoding) else None

    @property
    def needs_vectors(self) -> bool:
        """Whether it needs pretrained gene vectors."""
        return self.encoding is not None and self.encoding.gene_encoder == "protein"

    @property
    def fits_evaluation(self) -> bool:
        """Whether it is fitted to each evaluation set instead of the training data."""
        return getattr(self.method, "fit_on", "train") == "evaluation"

    @property
    def has_budgets(self) -> bool:
        """Whether it is trained step by step, and can be judged on the way."""
        return isinstance(self.method, Encoding)

    @property
    def keeps_fit(self) -> bool:
        """Whether its fit can be kept on disk."""
        if self.encoding is not None:
            return True
        return hasattr(self.method, "save") and hasattr(self.method, "load")

    def settings(self, seed: int) -> dict[str, Any]:
        """Return what tells its results from those of others, as plain values."""
        if self.encoding is None:
            return method_settings(self.method)
        settings = self.encoding.settings(seed)
        if isinstance(self.method, Untrained):
            settings["training"] = None
        return settings


def make_entries(
    encodings: Iterable[Any] | Mapping[str, Any],
    baselines: Iterable[Any],
    gene_vectors: str | None,
) -> list[Entry]:
    """Bring all that users may name into one list.

    Parameters
    ----------
    encodings
        `Encoding`, mappings of its attributes, or methods; or a mapping from name to these.
    baselines
        Names of `BASELINES`, mappings from such a name to its options, or methods.
    gene_vectors
        What pretrained gene vectors are called.

    Raises
    ------
    TypeError, ValueError
        Something is no method, a name is unknown or stands twice, or there is nothing.
    """
    entries = [_entry(given, name, gene_vectors) for name, given in _named(encodings)]
    models = [entry.method for entry in entries if isinstance(entry.method, Encoding)]
    for given in baselines:
        methods: Sequence[Any] = [given]
        if isinstance(given, str):
            methods = _baseline(given, {}, models, gene_vectors)
        elif isinstance(given, Mapping):
            methods = [
                method
                for name, options in given.items()
                for method in _baseline(name, dict(options or {}), models, gene_vectors)
            ]
        for method in methods:
            entry = _entry(method, None, gene_vectors)
            entries.append(Entry(entry.name, "baseline", entry.method))
    if not entries:
        raise ValueError("There is nothing to compare: encodings and baselines are empty.")
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Two entries are called {name!r}; give each a name of its own.")
    return entries


def _named(encodings: Iterable[Any] | Mapping[str, Any]) -> list[tuple[str | None, Any]]:
    if isinstance(encodings, Mapping):
        return list(encodings.items())
    if isinstance(encodings, Encoding):
        return [(None, encodings)]
    return [(None, given) for given in encodings]


def _entry(given: Any, name: str | None, gene_vectors: str | None) -> Entry:
    if isinstance(given, Mapping):
        refuse_unknown(given, (field.name for field in fields(Encoding)), "argument of an encoding")
        given = Encoding(**given)
    if isinstance(given, Encoding):
        return Entry(name or given.title(gene_vectors), given.kind, given)
    if isinstance(given, Untrained):
        return Entry(name or given.title(gene_vectors), "baseline", given)
    if isinstance(given, type) or not isinstance(given, Method):
        what = f"the class {given.__name__}" if isinstance(given, type) else repr(given)
        raise TypeError(
            f"{what} cannot be compared: an entry is a scenc.benchmark.Encoding, or an object with "
            "fit(adata, batch_key=..., seed=...) and embed(adata)."
        )
    kind: Kind = "baseline" if getattr(given, "fit_on", "train") == "evaluation" else "encoding"
    return Entry(name or str(getattr(given, "name", type(given).__name__)), kind, given)


def _baseline(
    name: str, options: dict[str, Any], models: list[Encoding], gene_vectors: str | None
) -> list[Any]:
    choose(name, BASELINES, "baseline")
    if name == "untrained":
        refuse_unknown(options, ["encodings"], "option of the baseline 'untrained'")
        return [Untrained(model) for model in _chosen(options, models, gene_vectors)]
    kind: Any = PCA if name == "PCA" else SCVI
    refuse_unknown(options, (f.name for f in fields(kind)), f"option of the baseline {name!r}")
    return [kind(**options)]


def _chosen(
    options: dict[str, Any], models: list[Encoding], gene_vectors: str | None
) -> list[Encoding]:
    """Return the encodings to leave untrained: those asked for, or learned + soft."""
    titles = {model.title(gene_vectors): model for model in models}
    if not titles:
        raise ValueError("The baseline 'untrained' needs a scenc encoding to leave untrained.")
    if "encodings" not in options:
        return [titles.get("learned + soft", next(iter(titles.values())))]
    wanted = options["encodings"]
    names = list(titles) if wanted == "all" else [wanted] if isinstance(wanted, str) else wanted
    return [titles[choose(name, titles, "encodings of the baseline 'untrained'")] for name in names]
