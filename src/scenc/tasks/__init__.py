"""What people do with an embedding, on arrays alone: nothing here needs a `scenc.Model`."""
