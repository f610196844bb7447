"""What a model is trained on: batches, the cells they are made of, and those held out."""

from __future__ import annotations

import hashlib
import warnings
from copy import copy
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scenc._distributed import is_first
from scenc._paths import path_name
from scenc.data import OrderedRequests, ShuffledRequests, TokenDataset, ViewDataset
from scenc.model._aligned_counts import align_streamed, streamed_batches
from scenc.model._components import find_components, sample
from scenc.model._initial import make_tokenizer
from scenc.model._neighborhoods import find_neighborhoods
from scenc.train import ShareNeighborhoods

if TYPE_CHECKING:
    import pandas as pd
    from lightning.pytorch import Callback
    from numpy.typing import NDArray

    from scenc.data import BatchLoader, CellModule, Neighborhoods
    from scenc.model._aligned_counts import AlignedCounts
    from scenc.nn import ModelConfig
    from scenc.train import TrainConfig

# From so many cells on, holding all of them in memory is worth a word.
_MANY_CELLS = 1_000_000


class CellSplit(NamedTuple):
    """Rows to train on, to validate on and to leave alone."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


class LoadedCells(NamedTuple):
    """Cells in memory, their experimental batches, and which of them are held out."""

    cells: AlignedCounts
    batches: NDArray[np.int64]
    split: CellSplit


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Batches to train and to validate on, and the callbacks that these need in training."""

    train: BatchLoader[Any]
    validation: BatchLoader[Any] | None
    split: CellSplit
    callbacks: tuple[Callback, ...] = ()


def line_up(
    datamodule: CellModule, vocabulary: pd.Index[str], counted: pd.Index[str]
) -> CellModule:
    """Return a copy of a datamodule that gives the genes of a model."""
    # A copy, so that the user's own is left as it is.
    files = copy(datamodule)
    if not files.vocabulary.equals(vocabulary):
        files.use_vocabulary(vocabulary, counted)
    return files


def stream_batches(
    files: CellModule, model: ModelConfig, config: TrainConfig, epoch: int, *, pin_memory: bool
) -> TrainingData:
    """Return masked batches that are read from files while they are trained on.

    The files are those of `line_up`; `epoch` is the number of epochs of earlier trainings.
    """
    files.tokenizer = make_tokenizer(model, config.mask_fraction)
    files.batch_size = config.batch_size
    files.pin_memory = pin_memory
    return TrainingData(
        files.train_dataloader(epoch=epoch), files.held_out("validation"), _split_of(files)
    )


def load_cells(files: CellModule) -> LoadedCells:
    """Read all cells of many files into memory, with the genes of the vocabulary only."""
    if files.n_obs > _MANY_CELLS:
        warnings.warn(
            f"The contrastive objective holds the counts of {len(files.vocabulary):,} genes of "
            f"all {files.n_obs:,} cells in memory, and searches neighbours among them. "
            "objective='masked' streams them instead.",
            UserWarning,
            stacklevel=4,
        )
    cells = align_streamed(files, np.arange(files.n_obs))
    return LoadedCells(cells, streamed_batches(files), _split_of(files))


def make_batches(
    loaded: LoadedCells,
    n_genes: int,
    model: ModelConfig,
    config: TrainConfig,
    epoch: int,
    *,
    num_workers: int,
    pin_memory: bool,
) -> TrainingData:
    """Return batches of cells in memory: masked tokens, or pairs of views.

    `n_genes` is the size of the vocabulary, `epoch` the number of epochs of earlier trainings.
    """
    cells, split = loaded.cells, loaded.split
    contrastive = model.objective == "contrastive"
    dataset: TokenDataset | ViewDataset
    callbacks: tuple[Callback, ...] = ()
    if contrastive:
        find = partial(_neighborhoods, loaded, n_genes, model, config)
        # Of processes that train together only the first one need find them.
        known = find() if is_first() else None
        dataset = _views(cells, known, model, config)
        callbacks = (ShareNeighborhoods(dataset, find),)
    else:
        tokenizer = make_tokenizer(model, config.mask_fraction)
        dataset = TokenDataset(cells.rows, cells.gene_map, tokenizer, by_length=True)
    load = partial(dataset.loader, num_workers=num_workers, pin_memory=pin_memory)
    shuffled = ShuffledRequests(split.train, config.batch_size, seed=model.seed, epoch=epoch)
    ordered = OrderedRequests(
        split.validation,
        config.batch_size,
        seed=model.seed,
        lengths=cells.n_genes[split.validation],
        # The contrast is harder in a larger batch: ranks share one, to measure what one would.
        shared=contrastive,
    )
    validation = load(ordered) if len(split.validation) else None
    return TrainingData(load(shuffled), validation, split, callbacks)


def split_cells(n_genes: NDArray[np.int64], config: TrainConfig, seed: int) -> CellSplit:
    """Split the cells that have non-zero genes at random, in the same way at every call.

    Raises
    ------
    ValueError
        Fewer than two cells have counts.
    """
    filled = np.flatnonzero(n_genes > 0)
    if len(filled) < 2:
        raise ValueError(
            f"Training needs at least 2 cells with counts, the data have {len(filled)}."
        )
    order = np.random.default_rng(seed).permutation(filled)
    n_validation = _n_held_out(config.validation_size, len(order), len(order) - 1)
    n_test = _n_held_out(config.test_size, len(order), len(order) - n_validation - 1)
    validation, test, train = np.split(order, [n_validation, n_validation + n_test])
    return CellSplit(np.sort(train), np.sort(validation), np.sort(test))


def training_identity(
    model: ModelConfig,
    config: TrainConfig,
    vocabulary: pd.Index[str],
    split: CellSplit,
    first_epoch: int,
    devices: str,
    files: CellModule | None,
) -> dict[str, Any]:
    """Return what two trainings must have in common if one is to go on where the other ended.

    Files are known by their names without folders, so that all may be moved together.
    """
    settings = asdict(config)
    # The weights do not depend on it.
    del settings["checkpoint_blocks"]
    return {
        **asdict(model),
        **settings,
        "genes": hashlib.sha256("\n".join(vocabulary).encode()).hexdigest(),
        "split_sizes": [len(rows) for rows in split],
        "first_epoch": first_epoch,
        "devices": devices,
        "files": None if files is None else [path_name(path) for path in files.paths],
    }


def _neighborhoods(
    loaded: LoadedCells, n_genes: int, model: ModelConfig, config: TrainConfig
) -> Neighborhoods:
    """Find which cells are alike, among those to train and to validate on."""
    values = sample(loaded.cells, n_genes, model.target_sum, model.seed)
    components = find_components(values, model.d_model, model.seed)
    return find_neighborhoods(
        components.project(loaded.cells, model.target_sum),
        loaded.batches,
        config.n_neighbors,
        model.seed,
        shown=np.sort(np.concatenate([loaded.split.train, loaded.split.validation])),
    )


def _views(
    cells: AlignedCounts, known: Neighborhoods | None, model: ModelConfig, config: TrainConfig
) -> ViewDataset:
    """Return pairs of views, what the contrastive objective trains on."""
    # Where masked genes do not enter the loss, none are masked.
    mask_fraction = config.mask_fraction if config.masked_weight else 0.0
    tokenizer = make_tokenizer(model, mask_fraction, context=config.view_genes)
    return ViewDataset(
        cells.rows, cells.gene_map, tokenizer, known, config.view_depth, config.same_cell
    )


def _split_of(files: CellModule) -> CellSplit:
    """Return the split that a datamodule was made with."""
    return CellSplit(files.cells_of("train"), files.cells_of("validation"), files.cells_of("test"))


def _n_held_out(share: float, n: int, most: int) -> int:
    """Number of held-out cells: a share of n, at least one if any are wanted, up to a limit."""
    return min(most, max(1, round(share * n))) if share > 0 else 0
