from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from scenc._arguments import choose

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

_FOLDER = "scenc_logs"
_KINDS = {"csv": CSVLogger, "tensorboard": TensorBoardLogger}


def make_loggers(
    logger: str | Logger | Sequence[Logger] | None, folder: str | os.PathLike[str] | None
) -> list[Logger]:
    """Turn what a user names as logger into loggers of Lightning.

    Parameters
    ----------
    logger
        ``"csv"``, ``"tensorboard"``, loggers, or ``None``.
    folder
        Where a logger named by a word writes; ``None``: ``scenc_logs``.

    Raises
    ------
    ValueError
        The word is unknown.

    Examples
    --------
    >>> [logger] = scenc.train.make_loggers("csv", "logs")
    >>> type(logger).__name__, logger.save_dir
    ('CSVLogger', 'logs')
    """
    if logger is None:
        return []
    if isinstance(logger, Logger):
        return [logger]
    if isinstance(logger, str):
        kind = _KINDS[choose(logger, _KINDS, "logger")]
        return [kind(save_dir=str(folder or _FOLDER), name="logs")]
    return list(logger)
