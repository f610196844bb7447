"""The entries of a benchmark: encodings, other methods, data sets, configurations."""
