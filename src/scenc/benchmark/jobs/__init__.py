"""The jobs of a benchmark: planned, run, stored under the hash of all they depend on, collected."""
