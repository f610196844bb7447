"""How networks are trained: settings, training plans, schedule and callbacks."""

from scenc.train._budget import Budget
from scenc.train._callbacks import Curve, NonFiniteGradientError, NonFiniteLossError
from scenc.train._checkpoints import CheckpointError, Checkpoints
from scenc.train._config import TrainConfig
from scenc.train._decoder import Latent, fit_decoder
from scenc.train._loggers import make_loggers
from scenc.train._plan import MaskedExpressionPlan, TrainingPlan
from scenc.train._run import fit
from scenc.train._schedule import warmup_cosine
from scenc.train._start import ShareNeighborhoods, StartTogether
from scenc.train._view_plans import ContrastivePlan, GenerativePlan, ViewPlan

# The name of 0.1.
Plan = TrainingPlan

__all__ = [
    "Budget",
    "CheckpointError",
    "Checkpoints",
    "ContrastivePlan",
    "Curve",
    "GenerativePlan",
    "Latent",
    "MaskedExpressionPlan",
    "NonFiniteGradientError",
    "NonFiniteLossError",
    "Plan",
    "ShareNeighborhoods",
    "StartTogether",
    "TrainConfig",
    "TrainingPlan",
    "ViewPlan",
    "fit",
    "fit_decoder",
    "make_loggers",
    "warmup_cosine",
]
