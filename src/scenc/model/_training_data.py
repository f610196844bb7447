"""What a model is trained on: batches, the cells they are made of, and those held out."""

from __future__ import annotations

import hashlib
import warnings
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scenc._distributed import is_first
from scenc._paths import path_name
from scenc.data import (
    FileViews,
    Neighborhoods,
    OrderedRequests,
    ShuffledRequests,
    TokenDataset,
    ViewDataset,
)
from scenc.model._aligned_counts import align_streamed
from scenc.model._components import find_components, sample
from scenc.model._initial import make_tokenizer
from scenc.model._neighborhoods import find_neighborhoods
from scenc.train import ShareNeighborhoods

if TYPE_CHECKING:
    import pandas as pd
    from lightning.pytorch import Callback
    from numpy.typing import NDArray

    from scenc.data import BatchLoader, CellModule, Tokenizer
    from scenc.model._aligned_counts import AlignedCounts
    from scenc.nn import ModelConfig
    from scenc.train import TrainConfig

# Settings that only the generative objective has.
_OF_GENERATIVE = (
    "likelihood",
    "decoder_hidden",
    "counts_weight",
    "partner_share",
    "kl_weight",
    "decoder_steps",
)
# From so many cells on, holding all of them in memory is worth a word.
_MANY_CELLS = 1_000_000


class CellSplit(NamedTuple):
    """Rows to train on, to validate on and to leave alone."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


class LoadedCells(NamedTuple):
    """Cells in memory, their covariates, the batch first, and which of them are held out."""

    cells: AlignedCounts
    covariates: NDArray[np.int64]
    split: CellSplit


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Batches to train and to validate on, and the callbacks that these need in training.

    `loaded` are the cells that they are made of; None where these are read from files.
    """

    train: BatchLoader[Any]
    validation: BatchLoader[Any] | None
    split: CellSplit
    callbacks: tuple[Callback, ...] = ()
    loaded: LoadedCells | None = None


def line_up(
    datamodule: CellModule, vocabulary: pd.Index[str], counted: pd.Index[str]
) -> CellModule:
    """Return a copy of a datamodule that gives the genes of a model."""
    # A copy, so that the user's own is left as it is.
    files = copy(datamodule)
    if not files.vocabulary.equals(vocabulary):
        files.use_vocabulary(vocabulary, counted)
    return files


def may_stream(model: ModelConfig, config: TrainConfig) -> bool:
    """Return whether batches need nothing but their own cells, and can be read as they come."""
    return model.objective == "masked" or not config.wants_neighbors


def stream_batches(
    files: CellModule,
    covariates: NDArray[np.int64],
    model: ModelConfig,
    config: TrainConfig,
    epoch: int,
    *,
    pin_memory: bool,
) -> TrainingData:
    """Return batches that are read from files while they are trained on.

    The files are those of `line_up`, with their cells' covariates; `epoch` is the number of epochs
    of earlier trainings.
    """
    make = None
    files.tokenizer = make_tokenizer(model, config.mask_fraction)
    if model.objective != "masked":
        make = partial(
            FileViews,
            tokenizer=_view_tokenizer(model, config),
            n_genes=files.n_vars,
            depth=config.view_depth,
            covariates=covariates,
        )
    files.batch_size = config.batch_size
    files.pin_memory = pin_memory
    return TrainingData(
        files.train_dataloader(epoch, make), files.held_out("validation", make), _split_of(files)
    )


def load_cells(files: CellModule, covariates: NDArray[np.int64]) -> LoadedCells:
    """Read all cells of many files into memory, with the genes of the vocabulary only."""
    if files.n_obs > _MANY_CELLS:
        warnings.warn(
            f"This objective holds the counts of {len(files.vocabulary):,} genes of "
            f"all {files.n_obs:,} cells in memory, and searches neighbours among them. "
            "objective='generative' with same_cell=1 needs no neighbours, and streams them.",
            UserWarning,
            stacklevel=4,
        )
    cells = align_streamed(files, np.arange(files.n_obs))
    return LoadedCells(cells, covariates, _split_of(files))


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
    in_pairs = model.objective != "masked"
    dataset: TokenDataset | ViewDataset
    callbacks: tuple[Callback, ...] = ()
    if in_pairs:
        find = partial(_neighborhoods, loaded, n_genes, model, config)
        # Of processes that train together only the first one need find them.
        known = find() if is_first() else None
        dataset = _views(loaded, known, model, config)
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
        shared=in_pairs,
    )
    validation = load(ordered) if len(split.validation) else None
    return TrainingData(load(shuffled), validation, split, callbacks, loaded)


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
    settings = {**model.to_dict(), **config.to_dict()}
    # The weights do not depend on it.
    del settings["checkpoint_blocks"]
    if model.objective != "generative":
        # Checkpoints of the other objectives may be older than these.
        for name in _OF_GENERATIVE:
            settings.pop(name, None)
    return {
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
    """Find which cells are alike, among those to train and to validate on, if need be."""
    batches = loaded.covariates[:, 0]
    if not config.wants_neighbors:
        return Neighborhoods.alone(batches)
    values = sample(loaded.cells, n_genes, model.target_sum, model.seed)
    components = find_components(values, model.d_model, model.seed)
    return find_neighborhoods(
        components.project(loaded.cells, model.target_sum),
        batches,
        config.n_neighbors,
        model.seed,
        shown=np.sort(np.concatenate([loaded.split.train, loaded.split.validation])),
    )


def _views(
    loaded: LoadedCells, known: Neighborhoods | None, model: ModelConfig, config: TrainConfig
) -> ViewDataset:
    """Return pairs of views, and for the generative objective their cells' counts."""
    tokenizer, cells = _view_tokenizer(model, config), loaded.cells
    return ViewDataset(
        cells.rows,
        cells.gene_map,
        tokenizer,
        known,
        config.view_depth,
        config.same_cell,
        loaded.covariates if model.objective == "generative" else None,
    )


def _view_tokenizer(model: ModelConfig, config: TrainConfig) -> Tokenizer:
    # Where masked genes do not enter the loss, none are masked.
    mask_fraction = config.mask_fraction if config.masked_weight else 0.0
    return make_tokenizer(model, mask_fraction, context=config.view_genes)


def _split_of(files: CellModule) -> CellSplit:
    """Return the split that a datamodule was made with."""
    return CellSplit(files.cells_of("train"), files.cells_of("validation"), files.cells_of("test"))


def _n_held_out(share: float, n: int, most: int) -> int:
    """Number of held-out cells: a share of n, at least one if any are wanted, up to a limit."""
    return min(most, max(1, round(share * n))) if share > 0 else 0
