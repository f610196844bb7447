from __future__ import annotations

import json
import logging
import time
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from scenc._arguments import choose
from scenc.benchmark.entries._encodings import grid
from scenc.benchmark.entries._entries import BASELINES, make_entries
from scenc.benchmark.entries._sets import EvaluationSet, TrainingSet, missing_files
from scenc.benchmark.jobs._jobs import NEGATIVE_CONTROLS, BenchmarkPlan
from scenc.benchmark.jobs._store import JobStore, write_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import pandas as pd
    from anndata import AnnData

    from scenc.benchmark.entries._encodings import Encoding
    from scenc.benchmark.entries._methods import Method
    from scenc.benchmark.entries._sets import AnnDataOrPath
    from scenc.benchmark.jobs._jobs import Job
    from scenc.benchmark.jobs._prepare import Keep
    from scenc.benchmark.jobs._scheduler import Executor
    from scenc.genes import ProteinEmbeddings
    from scenc.results import Results

logger = logging.getLogger(__name__)

_WORK, _RUN = "work", "run.json"
# Seconds from one writing of the tables to the next, and how many times what it takes at least.
_WRITE_EVERY, _WRITE_SHARE = 60.0, 30


class Benchmark:
    """The paper's benchmark: encodings trained in the same way, evaluated on unseen cells.

    Each encoding is trained once per seed; each model embeds each evaluation set; each embedding is
    scored by `scenc.metrics`. Each of these is a job whose result is kept under a hash of all it
    depends on (settings, contents of the data, versions), so that a run may be killed at any
    moment, and goes on where it was.

    Parameters
    ----------
    train
        Cells to train on: an AnnData, an ``.h5ad`` file, a list of these, or a `TrainingSet`.
        ``None`` if nothing is trained.
    evaluate
        Evaluation sets by name: each an `EvaluationSet`, or its arguments as a dictionary.
    out
        Folder for the results; all files of the benchmark are in it.
    encodings
        What to compare: `grid`'s, any other `Encoding`, or any object with ``fit`` and ``embed``
        (see `Method`); a mapping gives names.
    seeds
        Each trains, embeds and scores everything once. The seed is that of the model, and of the
        split of kNN classification, which is therefore the same for all encodings.
    budgets
        Visits of cells after which each encoding is judged: its one training goes on to the largest
        budget, and at each of them, rounded up to an optimizer step, the weights of the best
        validation so far are kept, embed and are scored. This takes the place of ``max_epochs`` and
        ``cell_visits`` in the settings of training, without early stopping. ``None``: each encoding
        is judged at the end that its settings say.

        The schedule of the learning rate is laid out for the largest budget: its warm-up (a tenth
        of all steps at most) and its cosine. At a smaller budget the learning rate has therefore
        not come down yet (after a tenth of the largest it is at its height), and such a model is
        worse than one whose whole training has that budget. Encodings may be compared at each
        budget, since all are treated alike; the curve of one encoding shows what more training
        brings together with the fall of its learning rate.
    negative_controls
        Whether each trained encoding is scored once more, at the largest budget and with the first
        seed, where something is shuffled so that scores must fall; or which of ``"genes"`` (the
        counts of each cell belong to genes drawn anew), ``"expression"`` (counts are dealt out anew
        among the genes that a cell expresses) and ``"labels"`` (the labels are permuted). Their
        scores are in `Results.checks`, and take no part in anything else.
    baselines
        Of ``"PCA"``, ``"scVI"`` and ``"untrained"`` (initial weights, of learned + soft unless told
        otherwise); a dictionary gives options, ``{"scVI": {"max_epochs": 50}}``; or methods.
    protein_embeddings
        Pretrained gene vectors for the encodings with ``gene_encoder="protein"``: a file, or
        `scenc.genes.ProteinEmbeddings`.
    gene_vectors
        Name of these vectors in tables and figures, such as ``"ESM-2"``.
    metrics
        Scores of integration to compute, of ``scenc.metrics.BATCH_CORRECTION`` and
        ``scenc.metrics.BIO_PRESERVATION``; ``None``: all.
    k
        Number of neighbours in classification.
    threads
        Threads of each job. Results agree to the last digit between runs, executors and machines
        of one kind if it is the same.
    title
        Title of the run.

    Raises
    ------
    TypeError, ValueError
        An argument is unknown or out of range; data are read, and checked, by `run`.

    Examples
    --------
    >>> from scenc.benchmark import Benchmark, EvaluationSet, grid
    >>> benchmark = Benchmark(
    ...     train=["a.h5ad", "b.h5ad"],
    ...     evaluate={"liver": EvaluationSet("liver.h5ad", "cell_type", batch_key="donor")},
    ...     encodings=grid(gene_encoders=["learned"]),
    ...     out="results",
    ... )
    >>> results = benchmark.run(workers=2)
    >>> results.summary()
    """

    def __init__(
        self,
        train: TrainingSet | AnnDataOrPath | Sequence[AnnDataOrPath] | Mapping[str, Any] | None,
        evaluate: Mapping[str, EvaluationSet | Mapping[str, Any] | AnnData],
        out: str | PathLike[str],
        encodings: Iterable[Encoding | Method] | Mapping[str, Encoding | Method] | None = None,
        *,
        seeds: Iterable[int] = (0, 1, 2),
        budgets: Iterable[int] | None = None,
        negative_controls: bool | Iterable[str] = False,
        baselines: Iterable[str | Mapping[str, Any] | Method] = BASELINES,
        protein_embeddings: str | PathLike[str] | ProteinEmbeddings | None = None,
        gene_vectors: str | None = None,
        metrics: Collection[str] | None = None,
        k: int = 10,
        threads: int = 1,
        title: str = "",
    ) -> None:
        self.train = None if train is None else TrainingSet.of(train)
        self.evaluate = {name: EvaluationSet.of(given) for name, given in evaluate.items()}
        self.out = Path(out)
        self.seeds = tuple(seeds)
        self.budgets = tuple(budgets or ())
        self.negative_controls = _which(negative_controls)
        self.gene_vectors = gene_vectors
        self.threads = threads
        self.title = title
        self.entries = make_entries(
            grid() if encodings is None else encodings, baselines, gene_vectors
        )
        self._protein_embeddings = protein_embeddings
        self._metrics, self._k = None if metrics is None else list(metrics), k
        self._store = JobStore(self.out / _WORK)
        self._plan: BenchmarkPlan | None = None
        self._check()

    @classmethod
    def from_config(
        cls,
        config: str | PathLike[str],
        out: str | PathLike[str],
        data_dir: str | PathLike[str] | None = None,
    ) -> Self:
        """Make a benchmark from a YAML file.

        Parameters
        ----------
        config
            The file, or ``"small"`` or ``"paper"``, which come with scenc.
        out
            Folder for the results.
        data_dir
            Folder that file names are relative to; ``None``: what the file says, or the folder it
            is in.

        Raises
        ------
        TypeError, ValueError
            A key is unknown (the message names the nearest known one) or a value is no such thing.
        FileNotFoundError
            There is no such file.
        """
        from scenc.benchmark.entries._yaml_file import read_config

        return cls(out=out, **read_config(config, data_dir).arguments())

    def run(
        self,
        executor: Executor | None = None,
        *,
        workers: int = 1,
        fresh: bool = False,
        progress: bool = True,
    ) -> Results:
        """Do all jobs that have not been done, and write the tables.

        A job that fails is recorded with its reason, and so are those that need it; the others go
        on. Failed jobs are tried again by the next run; finished ones are never done again.

        Parameters
        ----------
        executor
            Where to do them: any executor of `concurrent.futures`, dask's
            ``Client.get_executor()``, submitit's. Its processes must see the output folder.
            ``None``: here, or in `workers` processes.
        workers
            Number of processes of this machine; 1: this one.
        fresh
            Whether to forget all earlier results in the folder first.
        progress
            Whether to show progress.

        Returns
        -------
        The results, which are also written to the output folder.

        Raises
        ------
        ValueError, KeyError, FileNotFoundError
            Data are unusable; the message says which and why. Nothing has been done then.
        """
        from tqdm.auto import tqdm

        from scenc.benchmark.jobs._scheduler import Scheduler

        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}.")
        if fresh:
            self._store.clear()
        jobs = self._start()
        for job in jobs:
            self._store.clear_failure(job.key)
        with tqdm(total=len(jobs), desc="Benchmark", unit="job", disable=not progress) as bar:
            due = time.monotonic() + _WRITE_EVERY

            def on_end(job: Job) -> None:
                nonlocal due
                bar.set_postfix_str(str(job), refresh=False)
                bar.update()
                if (start := time.monotonic()) > due:
                    self.results().write(self.out)
                    end = time.monotonic()
                    due = end + max(_WRITE_EVERY, _WRITE_SHARE * (end - start))

            scheduler = Scheduler(jobs, str(self._store.root), self.threads, on_end)
            # Jobs of earlier runs are shown as done, but the rate counts from here.
            bar.initial = bar.n = scheduler.n_finished
            bar.refresh()
            try:
                if executor is not None:
                    scheduler.run_in(executor)
                elif workers > 1:
                    scheduler.run_in_pool(workers)
                else:
                    scheduler.run_here()
            finally:
                results = self.results()
                results.write(self.out)
        failed = results.jobs[results.jobs["status"] == "failed"]
        if len(failed):
            logger.warning(
                "%d of %d jobs failed, the first: %s: %s (Results.jobs has all; run again to try "
                "again.)",
                len(failed),
                len(results.jobs),
                failed["job"].iloc[0],
                failed["reason"].iloc[0],
            )
        return results

    def jobs(self) -> pd.DataFrame:
        """Return all jobs with estimates of their time and memory, without doing any.

        A few training steps are timed on this machine for it; what the estimates stand on is in
        ``attrs["basis"]``. Files need not be there yet: what depends on their size is then NaN,
        unless ``n_cells`` says it.

        Returns
        -------
        One row per job: ``job``, ``task``, ``encoding``, ``dataset``, ``seed``, ``budget``,
        ``status`` (``"done"``, ``"diverged"``, ``"failed"``, ``"pending"``), ``seconds`` and
        ``memory_mb`` (estimates).
        """
        from scenc.benchmark.jobs._estimate import estimate

        plan = self._plan or self._make_plan(lambda content, cells: None, incomplete=True)
        return estimate(plan, self._store, self.threads)

    def results(self) -> Results:
        """Return the results so far: of a run that goes on elsewhere, or was killed."""
        from scenc.benchmark.jobs._collect import collect
        from scenc.benchmark.jobs._describe import add_coverage

        jobs = self.plan.jobs()
        run = dict(self._run)
        run["evaluation_sets"] = {name: dict(of) for name, of in run["evaluation_sets"].items()}
        add_coverage(run, jobs, self._store)
        return collect(jobs, self.entries, self._store, run)

    @property
    def plan(self) -> BenchmarkPlan:
        """All jobs, and what they work on; data are read and checked at the first look."""
        if self._plan is None:
            self._plan = self._make_plan(lambda content, cells: None)
        return self._plan

    def _make_plan(self, keep: Keep, incomplete: bool = False) -> BenchmarkPlan:
        """Read all data; `incomplete` plans for files that are not there yet."""
        from scenc.benchmark.entries._fingerprint import vectors_fingerprint, versions
        from scenc.benchmark.jobs._prepare import (
            not_there,
            prepare_evaluation,
            prepare_training,
            require_shared_genes,
        )

        vectors = None if incomplete and self._vectors_missing else self._vectors
        evaluation = {
            name: not_there(given.n_cells)
            if incomplete and missing_files([given.data])
            else prepare_evaluation(given, name, keep)
            for name, given in self.evaluate.items()
        }
        training = None
        if self.train is not None and not all(entry.fits_evaluation for entry in self.entries):
            lacking = incomplete and missing_files(self.train.sources)
            training = (
                not_there(self.train.n_cells) if lacking else prepare_training(self.train, keep)
            )
        # Only scenc's models match genes by name.
        if training is not None and any(
            entry.encoding is not None and not entry.fits_evaluation for entry in self.entries
        ):
            require_shared_genes(training, evaluation)
        return BenchmarkPlan(
            entries=self.entries,
            training=training,
            evaluation=evaluation,
            min_cells={name: given.min_cells for name, given in self.evaluate.items()},
            seeds=self.seeds,
            budgets=sorted(self.budgets),
            negative_controls=self.negative_controls,
            vectors=None if vectors is None else vectors_fingerprint(vectors.matrix, vectors.names),
            scoring={"metrics": self._metrics, "k": self._k},
            versions=versions(),
        )

    @property
    def missing_files(self) -> list[Path]:
        """Files that the benchmark names and that are not there."""
        sources = [] if self.train is None else self.train.sources
        vectors = self._protein_embeddings
        return missing_files(
            [*sources, *(given.data for given in self.evaluate.values()),
             *([vectors] if isinstance(vectors, str | PathLike) else [])]
        )  # fmt: skip

    @property
    def _vectors_missing(self) -> bool:
        vectors = self._protein_embeddings
        return isinstance(vectors, str | PathLike) and bool(missing_files([vectors]))

    @cached_property
    def _vectors(self) -> ProteinEmbeddings | None:
        from scenc.genes import ProteinEmbeddings

        given = self._protein_embeddings
        if given is None or not any(entry.needs_vectors for entry in self.entries):
            return None
        if isinstance(given, ProteinEmbeddings):
            return given
        return ProteinEmbeddings.load(Path(given))

    @cached_property
    def _run(self) -> dict[str, Any]:
        from scenc.benchmark.jobs._describe import describe

        run = describe(
            self.plan,
            title=self.title,
            train=self.train,
            evaluate=self.evaluate,
            gene_vectors=self.gene_vectors,
            threads=self.threads,
        )
        try:
            before = json.loads((self._store.root / _RUN).read_text(encoding="utf-8"))
            run["started"] = str(before["started"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return run

    def _check(self) -> None:
        """Refuse what can be refused before any data are read."""
        from scenc.metrics import BATCH_CORRECTION, BIO_PRESERVATION

        for name in self._metrics or ():
            choose(name, [*BATCH_CORRECTION, *BIO_PRESERVATION], "metrics")
        if not self.evaluate:
            raise ValueError("evaluate names no evaluation set.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be one or more different numbers, got {self.seeds}.")
        for seed in self.seeds:
            if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
                raise ValueError(f"seeds must be whole numbers from 0, got {seed!r}.")
        self._check_budgets()
        for name in self.negative_controls:
            choose(name, NEGATIVE_CONTROLS, "negative_controls")
        if self.threads < 1 or self._k < 1:
            raise ValueError(f"threads and k must be at least 1: {self.threads} and {self._k}.")
        for entry in self.entries:
            entry.settings(self.seeds[0])
            if self.train is None and not entry.fits_evaluation:
                raise ValueError(f"{entry.name!r} needs cells to train on, and train is None.")
            if entry.needs_vectors and self._protein_embeddings is None:
                raise ValueError(f"{entry.name!r} needs protein_embeddings, a vector per gene.")

    def _check_budgets(self) -> None:
        if not self.budgets:
            return
        for budget in self.budgets:
            if not isinstance(budget, int) or isinstance(budget, bool) or budget < 1:
                raise ValueError(f"budgets must be visits of cells, from 1, got {budget!r}.")
        if len(set(self.budgets)) < len(self.budgets):
            raise ValueError(f"budgets must be different numbers, got {list(self.budgets)}.")
        if not any(entry.has_budgets for entry in self.entries):
            raise ValueError("budgets apply to encodings that are trained, and there is none.")

    def _start(self) -> list[Job]:
        """Read all data, leave them where jobs find them, and return the jobs."""
        if missing := self.missing_files:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise FileNotFoundError(
                f"{len(missing)} files are missing: {', '.join(map(str, missing[:5]))}{more}."
            )
        self._store.make()
        self._plan = self._make_plan(self._store.keep_data)
        if self._vectors is not None and self._plan.vectors is not None:
            path = self._store.data / f"vectors-{self._plan.vectors}.safetensors"
            if not path.exists():
                self._vectors.save(path)
        write_json(self._store.root / _RUN, self._run)
        return self._plan.jobs()


def _which(negative_controls: bool | Iterable[str]) -> tuple[str, ...]:
    """Return the names of the negative controls wanted."""
    if isinstance(negative_controls, bool):
        return NEGATIVE_CONTROLS if negative_controls else ()
    if isinstance(negative_controls, str):
        return (negative_controls,)
    return tuple(dict.fromkeys(negative_controls))
