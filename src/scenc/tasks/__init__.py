"""What people do with an embedding, on arrays alone: nothing here needs a `scenc.Model`."""

from scenc.tasks._check import EmbeddingCheck, Halves, check_embedding

__all__ = ["EmbeddingCheck", "Halves", "check_embedding"]
