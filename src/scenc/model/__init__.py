"""The model class."""

from scenc._model_files import ModelFileError
from scenc.model._model import Model
from scenc.model._presets import PRESETS, Preset

__all__ = ["PRESETS", "Model", "ModelFileError", "Preset"]
