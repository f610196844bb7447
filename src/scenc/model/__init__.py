"""The model class."""

from scenc.io import ModelFileError
from scenc.model._model import Model
from scenc.model._presets import OBJECTIVES, PRESETS, Preset, get_preset

__all__ = ["OBJECTIVES", "PRESETS", "Model", "ModelFileError", "Preset", "get_preset"]
