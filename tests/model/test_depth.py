"""Genes that a query lacks are missing in its library sizes: it is said which share they had."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scenc.model import Model


@pytest.fixture(scope="module")
def model(make_adata, make_model):
    model = make_model(make_adata(), n_top_genes=30)
    model.is_trained_ = True
    return model


def share_of(adata, genes):
    """Share of all counts that genes have."""
    return adata[:, genes].X.sum() / adata.X.sum()


def test_a_query_cut_to_variable_genes_is_warned_about(model, make_adata):
    adata = make_adata()
    lost = share_of(adata, model.counted)
    assert lost > 0.1
    message = (
        rf"adata lacks 30 of 60 genes that count for the library size, which had {lost:.0%} of the "
        r"counts in training: .*adata.raw.to_adata\(\)"
    )
    with pytest.warns(UserWarning, match=message):
        model.get_latent_representation(adata[:, model.vocabulary].copy(), key_added=None)


def test_genes_with_few_counts_may_be_missing(model, make_adata):
    adata = make_adata()
    rare = adata.var_names[np.argsort(np.asarray(adata.X.sum(axis=0)).ravel())]
    n_rare = int((np.cumsum([share_of(adata, [gene]) for gene in rare]) < 0.1).sum())
    assert n_rare > 5
    # Warnings are errors here.
    model.get_latent_representation(adata[:, rare[n_rare:]].copy(), key_added=None)
    with pytest.warns(UserWarning, match=rf"lacks {n_rare + 1} of 60 genes"):
        model.get_latent_representation(adata[:, rare[n_rare + 1 :]].copy(), key_added=None)


def test_files_are_warned_about_by_name(model, make_adata, tmp_path):
    adata = make_adata()
    adata.write_h5ad(tmp_path / "all.h5ad")
    adata[:, model.vocabulary].copy().write_h5ad(tmp_path / "cut.h5ad")
    files = [tmp_path / "all.h5ad", tmp_path / "cut.h5ad"]
    with pytest.warns(UserWarning, match=r"cut.h5ad lacks 30 of 60 genes") as warned:
        model.embed_files(files, tmp_path / "out", progress=False)
    assert sum(" lacks " in str(warning.message) for warning in warned) == 1


def test_shares_are_kept_with_a_model(model, make_adata, tmp_path):
    adata = make_adata()
    cut = adata[:, model.vocabulary].copy()
    model.save(tmp_path / "model")
    with pytest.warns(UserWarning, match=f"{share_of(adata, model.counted):.0%} of the counts"):
        Model.load(tmp_path / "model").get_latent_representation(cut, key_added=None)
    card = json.loads((tmp_path / "model" / "model.json").read_text())
    genes = [*card["vocabulary"], *card["counted"]]
    expected = [share_of(adata, [gene]) for gene in genes]
    np.testing.assert_allclose(card["count_shares"], expected, rtol=1e-6)
    # Models of earlier versions have none: half of the genes may be missing.
    del card["count_shares"]
    (tmp_path / "model" / "model.json").write_text(json.dumps(card))
    earlier = Model.load(tmp_path / "model")
    earlier.get_latent_representation(cut, key_added=None)
    with pytest.warns(UserWarning, match=r"lacks 32 of 60 genes that count .* size: its cells"):
        earlier.get_latent_representation(cut[:, :28].copy(), key_added=None)
    card["count_shares"] = [0.5]
    (tmp_path / "model" / "model.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="count_shares are not one number per gene"):
        Model.load(tmp_path / "model")
