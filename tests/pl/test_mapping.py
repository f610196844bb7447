"""`scenc.pl.mapping`: a query on its reference's map."""

from __future__ import annotations

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

import scenc


def cells(names, seed):
    rng = np.random.default_rng(seed)
    index = [f"cell{i}" for i in range(len(names))]
    adata = anndata.AnnData(obs=pd.DataFrame({"cell_type": pd.Categorical(names)}, index=index))
    adata.obsm["X_umap_joint"] = rng.normal(size=(len(names), 2))
    return adata


@pytest.fixture
def pair():
    reference, query = cells(["B"] * 30 + ["T"] * 20, 0), cells(["B"] * 8 + ["T"] * 4, 1)
    query.obs["mapping_score"] = np.linspace(0, 1, 12)
    query.obs["cell_type_pred"] = pd.Categorical(["B"] * 6 + ["T"] * 3 + ["Unknown"] * 3)
    yield reference, query
    plt.close("all")


def colors(ax, number):
    return ax.collections[number].get_facecolors()


def test_types_have_one_colour_in_both(pair):
    reference, query = pair
    reference.uns["cell_type_colors"] = ["#ff0000", "#0000ff"]
    axes = scenc.pl.mapping(reference, query)
    assert len(axes) == 3
    np.testing.assert_array_equal(colors(axes[0], 0)[0], to_rgba("#ff0000"))
    np.testing.assert_array_equal(colors(axes[0], 0)[-1], to_rgba("#0000ff"))
    # Behind the query lies the reference.
    np.testing.assert_array_equal(
        axes[1].collections[0].get_offsets(), reference.obsm["X_umap_joint"]
    )
    np.testing.assert_array_equal(axes[1].collections[1].get_offsets(), query.obsm["X_umap_joint"])
    np.testing.assert_array_equal(colors(axes[1], 1)[0], to_rgba("#ff0000"))
    names = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert names == ["B", "T", "Unknown"]
    np.testing.assert_array_equal(
        np.sort(axes[2].collections[1].get_array()), np.linspace(0, 1, 12)
    )


def test_what_is_drawn_can_be_chosen(pair):
    reference, query = pair
    figure, given = plt.subplots(1, 3)
    axes = scenc.pl.mapping(reference, query, query_color="cell_type", ax=given, legend=False)
    assert axes[0].figure is figure
    assert axes[1].get_legend() is None
    assert "by cell_type" in axes[1].get_title()
    plain = scenc.pl.mapping(reference, query, color=None)
    assert len(np.unique(colors(plain[0], 0), axis=0)) == 1


def test_what_is_missing_is_named(pair):
    reference, query = pair
    with pytest.raises(KeyError, match="reference.obs has no column 'leiden'"):
        scenc.pl.mapping(reference, query, color="leiden")
    del query.obs["mapping_score"]
    with pytest.raises(KeyError, match="mapping_score.*model.map"):
        scenc.pl.mapping(reference, query)
    del query.obsm["X_umap_joint"]
    with pytest.raises(KeyError, match="query.obsm has no 'X_umap_joint'.*model.map"):
        scenc.pl.mapping(reference, query)


def test_missing_labels_are_pale(pair):
    reference, query = pair
    reference.obs["cell_type"] = reference.obs["cell_type"].astype(object)
    reference.obs.iloc[0, 0] = None
    axes = scenc.pl.mapping(reference, query)
    assert [text.get_text() for text in axes[1].get_legend().get_texts()] == ["B", "T", "Unknown"]
    assert not np.array_equal(colors(axes[0], 0)[0], colors(axes[0], 0)[1])
