"""How networks are trained: settings, plan, schedule, and what watches over a run."""

from scenc.train._callbacks import Curve, NonFiniteLossError
from scenc.train._checkpoints import CheckpointError, Checkpoints
from scenc.train._config import TrainConfig
from scenc.train._contrastive_plan import ContrastivePlan
from scenc.train._loggers import make_loggers
from scenc.train._plan import MaskedExpressionPlan, Plan
from scenc.train._run import fit
from scenc.train._schedule import warmup_cosine
from scenc.train._start import ShareNeighborhoods, StartTogether

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "ContrastivePlan",
    "Curve",
    "MaskedExpressionPlan",
    "NonFiniteLossError",
    "Plan",
    "ShareNeighborhoods",
    "StartTogether",
    "TrainConfig",
    "fit",
    "make_loggers",
    "warmup_cosine",
]
