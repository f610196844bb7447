"""Data to try things on."""

from scenc.datasets._pbmc68k import pbmc68k

__all__ = ["pbmc68k"]
