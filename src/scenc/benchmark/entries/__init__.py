"""What a benchmark compares: encodings, other methods, data sets, configurations."""
