from __future__ import annotations

import inspect
import logging
import signal
import threading
import warnings
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from shutil import which
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from scenc._threads import kept_threads
from scenc._torch_settings import deterministic_algorithms, without_cudnn_attention
from scenc.train._budget import Budget, TrainingPaused
from scenc.train._callbacks import BestWeights, Curves, NonFiniteLossError, TrainingBar
from scenc.train._n_threads import Threads
from scenc.train._plan import MaskedExpressionPlan, TrainingPlan
from scenc.train._random import RankSeed, kept_random_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.strategies import Strategy

    from scenc.nn import CellTransformer
    from scenc.train._callbacks import Curve
    from scenc.train._checkpoints import Checkpoints
    from scenc.train._config import TrainConfig

# How long processes wait for each other: the first may search the neighbours of millions of cells
# before it joins the others.
_PREPARATION = timedelta(hours=3)
# What is compiled in half a minute saves a fifth of each step of so many layers (12 were measured);
# fewer layers take less time on a GPU than Python does to launch them.
_LEAST_LAYERS, _LEAST_BATCHES = 6, 1000


def fit(
    network: CellTransformer,
    train: Any,
    validation: Any | None,
    config: TrainConfig,
    *,
    seed: int,
    plan: type[TrainingPlan] = MaskedExpressionPlan,
    first_step: int = 0,
    precision: str = "auto",
    accelerator: str = "auto",
    devices: int | str | list[int] = 1,
    num_nodes: int = 1,
    strategy: str | Strategy = "auto",
    deterministic: bool = False,
    n_threads: int | None = None,
    compile_blocks: bool | None = None,
    early_stopping: bool = True,
    callbacks: Sequence[pl.Callback] = (),
    checkpoints: Checkpoints | None = None,
    logger: Logger | Iterable[Logger] | None = None,
    progress_bar: bool = True,
) -> Curve:
    """Train a network in place; it ends with the weights of its best validation.

    It stays on the device that it was trained on.

    Parameters
    ----------
    network
        The network to train.
    train, validation
        Loaders of batches of the kind the plan wants; without validation the last weights stay.
    config
        Settings.
    seed
        Seed of dropout; each rank has one of its own, which follows from it. The global random
        state is left as it was.
    plan
        Computes the losses.
    first_step
        Number of steps of earlier trainings of the same network. If there were any, the weights
        from before are validated as well, and stay if they are the best.
    precision
        A Lightning precision; ``"auto"`` is ``"16-mixed"`` on CUDA and ``"32-true"`` elsewhere.
    accelerator, devices, num_nodes, strategy, callbacks
        Passed to `lightning.pytorch.Trainer`; ``"auto"`` is the CPU on a Mac, ``"mps"`` its GPU.
        The strategies ``"auto"`` and ``"ddp"`` get options that suit; give one that you have made
        for others.
    deterministic
        Whether every run must give the same weights to the bit, if more slowly: a GPU uses other
        algorithms, and a CPU the number of threads that PyTorch has.
    n_threads
        Threads to train with on a CPU; ``None``: all, half, a quarter, ... or one, whichever the
        first steps are fastest with. PyTorch's number is restored afterwards.
    compile_blocks
        As the attribute ``compile_blocks`` of `scenc.nn.Transformer`, while it trains; ``None``:
        on a CUDA device where that pays, in trainings of 1,000 batches and more of networks of six
        layers and more, if there is the C compiler that it needs and `deterministic` is not set.
    early_stopping
        Whether to stop after `TrainConfig.patience` validations without improvement; not where a
        `Budget` is among the callbacks.
    checkpoints
        Writes checkpoints, and may have one to go on from.
    logger
        Gets the curves as they grow: a logger of Lightning, or several.
    progress_bar
        Whether to show progress.

    Raises
    ------
    ValueError
        A `Budget` among the callbacks is to pause, and there are no checkpoints.
    NonFiniteLossError
        The loss became NaN or infinite; the network then has its last good weights, and the error
        the curves up to there.
    NonFiniteGradientError
        The same for FP16 steps that are skipped again and again (a `NonFiniteLossError`, too).

    Examples
    --------
    >>> network = scenc.nn.CellTransformer(scenc.nn.ModelConfig(n_layers=1), n_genes=adata.n_vars)
    >>> rows = scenc.data.open_rows(adata.X)
    >>> tokenizer = scenc.data.Tokenizer(context=64, mask_fraction=0.5)
    >>> tokens = scenc.data.TokenDataset(rows, np.arange(adata.n_vars), tokenizer)
    >>> train = tokens.loader(scenc.data.ShuffledRequests(np.arange(600), batch_size=100))
    >>> validation = tokens.loader(scenc.data.OrderedRequests(np.arange(600, 700), batch_size=100))
    >>> curve = scenc.train.fit(
    ...     network, train, validation, scenc.train.TrainConfig(max_epochs=2), seed=0
    ... )
    >>> curve.n_steps, len(curve.validation)
    (12, 2)
    """
    accelerator = _resolve_accelerator(accelerator)
    budget = next((one for one in callbacks if isinstance(one, Budget)), None)
    if budget is not None and budget.pause_at is not None and checkpoints is None:
        raise ValueError("A training can pause only where it writes checkpoints: name a folder.")
    curves, best = Curves(first_step), BestWeights()
    threads = Threads(n_threads, fixed=deterministic)
    watchers: list[pl.Callback] = [RankSeed(seed), threads, curves, best, *callbacks]
    if early_stopping and validation is not None and budget is None:
        watchers.append(EarlyStopping(plan.validation_names[0], patience=config.patience))
    if progress_bar:
        watchers.append(TrainingBar())
    if checkpoints is not None:
        watchers.append(checkpoints)
        train = checkpoints.watch(train)
    resumed = checkpoints is not None and checkpoints.found
    by_step = config.validate_every is not None
    network.train()
    one_process = devices == 1 and num_nodes == 1
    with (
        _quiet_lightning(one_process),
        kept_threads(),
        without_cudnn_attention(),
        deterministic_algorithms(deterministic),
    ):
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=_resolve_strategy(strategy, accelerator, devices, num_nodes),
            precision=_resolve_precision(precision, accelerator),  # type: ignore[arg-type]
            # Without a number, the caller has not said how many cells there are.
            max_epochs=config.epochs(config.cell_visits),
            accumulate_grad_batches=config.accumulate_grad_batches,
            gradient_clip_val=config.gradient_clip or None,
            check_val_every_n_epoch=None if by_step else 1,
            # Lightning counts batches here, not optimizer steps.
            val_check_interval=(
                (config.validate_every or 1) * config.accumulate_grad_batches if by_step else 1.0
            ),
            callbacks=watchers,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            logger=logger or False,
            log_every_n_steps=1,
            # Earlier weights are measured first: those of the first validation may be worse.
            num_sanity_val_steps=-1 if first_step and not resumed else 0,
            # Our batches are shared out over ranks already.
            use_distributed_sampler=False,
        )
        failed = True
        if compile_blocks is None:
            compile_blocks = not deterministic and _compiling_pays(
                network, train, config, accelerator
            )
        compiled_before = network.transformer.compile_blocks
        network.transformer.compile_blocks = compile_blocks
        try:
            with _survive_interrupt(), kept_random_state(_own_device(trainer)):
                trainer.fit(
                    plan(network, config),
                    train,
                    validation,
                    ckpt_path=checkpoints.path if checkpoints and resumed else None,
                    weights_only=True,
                )
            failed = False
        except TrainingPaused:
            failed = False
        except NonFiniteLossError as error:
            error.curve = curves.result(trainer.global_step, threads.settled)
            raise
        finally:
            # Without any validation yet, an interrupted training keeps its last weights.
            if failed or best.has_validated:
                best.restore(network)
            network.eval()
            network.transformer.compile_blocks = compiled_before
            # Lightning leaves it on the CPU.
            network.to(_own_device(trainer))
    return curves.result(trainer.global_step, threads.settled)


def _resolve_accelerator(accelerator: str) -> str:
    """Take a Mac's GPU only where it is asked for, as scvi-tools does: it is the less tried one."""
    return "cpu" if accelerator == "auto" and torch.backends.mps.is_available() else accelerator


def _resolve_strategy(
    strategy: str | Strategy, accelerator: str, devices: int | str | list[int], num_nodes: int
) -> str | Strategy:
    """Give DDP options of ours, unless the caller has made the strategy himself."""
    how: Literal["popen", "fork"] = "popen"
    if strategy == "auto":
        if devices == 1 and num_nodes == 1:
            return strategy
        # Which one that is depends on what devices there are.
        chosen = pl.Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).strategy
        if type(chosen) is not DDPStrategy:
            return strategy
        if _forks(chosen):
            how = "fork"
    elif strategy != "ddp":
        return strategy
    # Buffers are the same on all ranks and never change; protein vectors are large.
    known = inspect.signature(DistributedDataParallel).parameters
    send = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {send: False}
    return DDPStrategy(timeout=_PREPARATION, start_method=how, **options)


def _own_device(trainer: pl.Trainer) -> torch.device:
    """Return the device that this process trains on."""
    # In a notebook several processes are forked off this one, which must not touch their devices.
    strategy = trainer.strategy
    return torch.device("cpu") if _forks(strategy) else strategy.root_device


def _forks(strategy: Strategy) -> bool:
    launcher = strategy.launcher
    return launcher is not None and launcher.is_interactive_compatible


def _resolve_precision(precision: str, accelerator: str) -> str:
    if precision != "auto":
        return precision
    return "16-mixed" if _is_cuda(accelerator) else "32-true"


def _is_cuda(accelerator: str) -> bool:
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def _compiling_pays(
    network: CellTransformer, train: Any, config: TrainConfig, accelerator: str
) -> bool:
    """Say whether compiled blocks save more time than it takes to compile them, and can be made."""
    return (
        _is_cuda(accelerator)
        and network.config.n_layers >= _LEAST_LAYERS
        and config.epochs(config.cell_visits) * len(train) >= _LEAST_BATCHES
        and find_spec("triton") is not None
        and any(which(compiler) for compiler in ("cc", "gcc", "clang"))
    )


@contextmanager
def _survive_interrupt() -> Iterator[None]:
    """End training, not the session, at a keyboard interrupt.

    Lightning would leave the process, and ignore further interrupts until then.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as leaving:
        if not isinstance(leaving.__context__, KeyboardInterrupt):
            raise
        warnings.warn(
            "Training was interrupted; the best weights so far are in place.",
            UserWarning,
            stacklevel=5,
        )
    finally:
        if main_thread and handler is not None:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _quiet_lightning(one_process: bool) -> Iterator[None]:
    """Silence messages of Lightning about settings that are chosen on purpose here."""
    loggers = [
        logging.getLogger("lightning.pytorch.utilities.rank_zero"),
        logging.getLogger("lightning.pytorch.accelerators.cuda"),
        logging.getLogger("lightning.pytorch.trainer.connectors.checkpoint_connector"),
    ]
    levels: list[Any] = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Tokens come from one compiled call a batch: worker processes would only add cost.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            # No validation is a choice of the settings.
            warnings.filterwarnings("ignore", message=".*but have no `val_dataloader`.*")
            # Lightning itself calls what PyTorch has deprecated.
            warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
            # FP16 skips steps whose gradients overflow, often the first one.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            if one_process:
                # On a cluster Lightning recommends srun, which starts several.
                warnings.filterwarnings("ignore", message="The `srun` command is available")
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
