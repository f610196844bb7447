"""Plots."""

from scenc.pl._training import training

__all__ = ["training"]
