"""The model class."""

from scenc.model._files import ModelFileError
from scenc.model._model import Model
from scenc.model._presets import PRESETS, Preset

__all__ = ["PRESETS", "Model", "ModelFileError", "Preset"]
