"""The jobs of a benchmark: in which order, and under which key.

For each seed and entry: train once, then for each evaluation set embed and score. With budgets, a
training is a chain of jobs, one for each budget: each goes on where the one before has paused, on a
schedule that is laid out for the largest, and leaves a model that is embedded and scored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from scenc.benchmark.entries._fingerprint import FORMAT, digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from scenc.benchmark.entries._entries import Entry
    from scenc.benchmark.jobs._prepare import Prepared

NEGATIVE_CONTROLS = ("genes", "expression", "labels")
"""What is shuffled, so that scores must fall: see `scenc.benchmark.jobs._shuffle`."""

Task = Literal["train", "embed", "score"]


@dataclass(frozen=True, eq=False)
class Job:
    """One training, embedding or scoring, with all that it takes to do it in any process.

    Attributes
    ----------
    task
        ``"train"``, ``"embed"`` or ``"score"``.
    entry, dataset, seed
        Which encoding, on which evaluation set (None in training), with which seed.
    budget
        After how many visits of cells; None: the training goes by its own settings, or there is
        none.
    shuffled
        Which negative control it is, of `NEGATIVE_CONTROLS`; None: it is none.
    key
        SHA-256 of all that the result depends on: settings, contents of the data, seed, versions,
        and the keys of `needs`. Names and paths are not among it, nor at which smaller budgets a
        training has paused.
    needs
        Keys of the jobs whose results it reads.
    spec
        The specification, as plain values.
    method
        The object to fit, for methods that are not scenc's.
    """

    task: Task
    entry: str
    dataset: str | None
    seed: int
    budget: int | None
    key: str
    needs: tuple[str, ...]
    spec: dict[str, Any]
    shuffled: str | None = None
    method: Any = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Name in tables; unique."""
        at = "" if self.budget is None else f"@{self.budget}"
        on = [
            name for name in (self.dataset, self.shuffled and f"{self.shuffled} shuffled") if name
        ]
        return "/".join([self.task, self.entry, *on, f"{self.seed}{at}"])

    def __str__(self) -> str:
        on = f" on {self.dataset}" if self.dataset else ""
        on += f" with {self.shuffled} shuffled" if self.shuffled else ""
        at = "" if self.budget is None else f", {self.budget:,} visits"
        return f"{self.task} {self.entry}{on}, seed {self.seed}{at}"


@dataclass(frozen=True, eq=False)
class BenchmarkPlan:
    """The entries, data, seeds and settings of a benchmark, from which its jobs follow.

    Attributes
    ----------
    entries
        The encodings and methods to compare.
    training
        The training data; None if nothing is trained on them.
    evaluation
        The evaluation sets, by name.
    min_cells
        Of each evaluation set.
    seeds
        The seeds.
    budgets
        Visits of cells after which each training of an encoding is judged, in increasing order;
        none: it is judged at its end, which its own settings say.
    negative_controls
        Which ones to make, of `NEGATIVE_CONTROLS`.
    vectors
        Fingerprint of the pretrained gene vectors; None: there are none.
    scoring
        Names of the scores, and settings of classification.
    versions
        Versions of what results depend on.
    """

    entries: Sequence[Entry]
    training: Prepared | None
    evaluation: Mapping[str, Prepared]
    min_cells: Mapping[str, int]
    seeds: Sequence[int]
    budgets: Sequence[int]
    negative_controls: Sequence[str]
    vectors: str | None
    scoring: Mapping[str, Any]
    versions: Mapping[str, str]

    def jobs(self) -> list[Job]:
        """Return all jobs, each after those it needs.

        One seed of everything comes before the next, and a budget of all encodings before a larger
        one: what is compared is complete as early as can be.
        """
        return [job for seed in self.seeds for job in self._of_seed(seed)]

    def _of_seed(self, seed: int) -> Iterable[Job]:
        paused: dict[str, Job] = {}
        for number, budget in enumerate(self.budgets or [None]):
            for entry in self.entries:
                if budget is not None and entry.has_budgets:
                    before = paused.get(entry.name)
                    paused[entry.name] = self._train(entry, seed, budget, before)
                    yield from self._row(entry, seed, paused[entry.name])
                    if budget == max(self.budgets):
                        yield from self._shuffled(entry, seed, paused[entry.name])
                elif number == 0:
                    train = None if entry.fits_evaluation else self._train(entry, seed)
                    yield from self._row(entry, seed, train)
                    if entry.has_budgets and train is not None:
                        yield from self._shuffled(entry, seed, train)

    def _row(self, entry: Entry, seed: int, train: Job | None) -> Iterable[Job]:
        if train is not None:
            yield train
        for dataset in self.evaluation:
            embed = self._embed(entry, dataset, seed, train)
            yield embed
            yield self._score(entry, dataset, seed, embed)

    def _shuffled(self, entry: Entry, seed: int, train: Job) -> Iterable[Job]:
        """Return the negative controls of a training: those of the first seed are enough."""
        if seed != self.seeds[0]:
            return
        for dataset in self.evaluation:
            intact = self._embed(entry, dataset, seed, train)
            for shuffled in self.negative_controls:
                embed = intact
                if shuffled != "labels":
                    embed = self._embed(entry, dataset, seed, train, shuffled)
                    yield embed
                yield self._score(entry, dataset, seed, embed, shuffled)

    def _train(
        self, entry: Entry, seed: int, budget: int | None = None, paused: Job | None = None
    ) -> Job:
        """Return a training: the whole of it, or up to a budget from where `paused` has ended."""
        assert self.training is not None
        settings = entry.settings(seed)
        spec: dict[str, Any] = {"settings": settings, "data": self.training.content}
        if budget is not None:
            # Epochs follow from the budget, and early stopping does not apply.
            for name in ("max_epochs", "cell_visits", "patience", "early_stopping"):
                settings["training"].pop(name, None)
            spec["budget"] = {"visits": budget, "of": max(self.budgets)}
        if entry.needs_vectors:
            spec["vectors"] = self.vectors
        where: dict[str, Any] = {"file": self.training.content}
        if not entry.keeps_fit:
            spec["embeds"] = sorted({cells.content for cells in self.evaluation.values()})
        needs = () if paused is None else (paused.key,)
        return self._job("train", entry, None, seed, budget, needs, spec, where)

    def _embed(
        self, entry: Entry, dataset: str, seed: int, train: Job | None, shuffled: str | None = None
    ) -> Job:
        cells = self.evaluation[dataset]
        where = {"file": cells.content}
        # Models of scenc embed by counts alone: other labels or batches leave the key as it is.
        data = cells.content if entry.encoding is None else cells.counts
        if train is None:
            spec = {"settings": entry.settings(seed), "data": data}
            return self._job("embed", entry, dataset, seed, None, (), spec, where)
        spec = {"model": train.key, "data": data}
        if shuffled is not None:
            spec["shuffled"] = shuffled
        needs = (train.key,)
        return self._job("embed", entry, dataset, seed, train.budget, needs, spec, where, shuffled)

    def _score(
        self, entry: Entry, dataset: str, seed: int, embed: Job, shuffled: str | None = None
    ) -> Job:
        cells = self.evaluation[dataset]
        scoring = {**self.scoring, "min_cells": self.min_cells[dataset]}
        spec = {"embedding": embed.key, "data": cells.content, "scoring": scoring}
        if shuffled == "labels":
            spec["shuffled"] = shuffled
        where, needs = {"file": cells.content}, (embed.key,)
        return self._job("score", entry, dataset, seed, embed.budget, needs, spec, where, shuffled)

    def _job(
        self,
        task: Task,
        entry: Entry,
        dataset: str | None,
        seed: int,
        budget: int | None,
        needs: tuple[str, ...],
        spec: dict[str, Any],
        where: dict[str, Any],
        shuffled: str | None = None,
    ) -> Job:
        """Make a job; `where` locates what it reads, on which results do not depend: not hashed."""
        versions = dict(self.versions)
        depends = {"format": FORMAT, "task": task, "seed": seed, "versions": versions, **spec}
        key = digest(depends)
        if "budget" in spec:
            where = {**where, "checkpoint": key, "paused": next(iter(needs), None)}
        ours = entry.encoding is not None
        spec = {**spec, "versions": versions, "where": where, "scenc": ours}
        method = None if ours or task == "score" else entry.method
        return Job(task, entry.name, dataset, seed, budget, key, needs, spec, shuffled, method)
