"""A model that several files of tests look at."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def generative_model(make_adata, make_model, train):
    """The default objective, with batches and types; not to be trained on or changed."""
    settings = {
        "objective": "generative",
        "context": None,
        "pooling": "expression",
        "residual_init": "zero",
        "gene_init": "spectral",
    }
    setup = {"batch_key": "batch", "labels_key": "cell_type"}
    return train(make_model(make_adata(), setup, **settings), max_epochs=2)
