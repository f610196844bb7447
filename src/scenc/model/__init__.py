"""The model class."""

from scenc.io import ModelFileError
from scenc.model._model import Model
from scenc.model._presets import OBJECTIVES, PRESETS, Preset, get_preset
from scenc.model._without_effect import refuse_unused_settings, refuse_unused_training
from scenc.tasks import EmbeddingCheck

__all__ = [
    "OBJECTIVES",
    "PRESETS",
    "EmbeddingCheck",
    "Model",
    "ModelFileError",
    "Preset",
    "get_preset",
    "refuse_unused_settings",
    "refuse_unused_training",
]
