"""Published systems' tokens: their encoders, and nothing else that differs from the grid."""

from __future__ import annotations

import pytest

from scenc.benchmark import grid, published_encodings
from scenc.benchmark.entries._entries import make_entries
from scenc.benchmark.entries._yaml_file import read_config
from scenc.model import Model

# What of a network is no part of how a token is made.
BEHIND = {"d_model", "n_layers", "n_heads", "d_feedforward", "dropout", "context", "target_sum",
          "norm", "objective", "n_top_genes", "pooling", "init_std", "seed"}  # fmt: skip


def test_only_the_tokens_are_the_systems_own():
    shared = {"model": {"context": 64}, "training": {"cell_visits": 1000, "max_epochs": None}}
    usual = grid(**shared)[0].settings(0)
    for encoding in published_encodings(**shared):
        settings = encoding.settings(0)
        assert settings["training"] == usual["training"]
        assert all(settings["model"][name] == usual["model"][name] for name in BEHIND)
        assert encoding.kind == "control"


def test_sizes_follow_the_preset():
    for preset, width in (("small", 64), ("paper", 512)):
        models = {e.title(): e.settings(0)["model"] for e in published_encodings(preset)}
        assert models["scGPT and Tahoe-x1"]["expression_hidden"] == width
        assert models["Heimdall"]["expression_hidden"] == width
        assert models["STATE"]["expression_hidden"] == 512
        assert models["scFoundation"]["expression_hidden"] == 100
    narrow = published_encodings(model={"d_model": 32}, names=["Heimdall"])[0].settings(0)["model"]
    assert (narrow["d_model"], narrow["expression_hidden"]) == (32, 32)


def test_entries_stand_beside_the_grid_under_their_names():
    entries = make_entries([*grid(depth_tokens=True), *published_encodings()], ["PCA"], "ESM-2")
    names = [entry.name for entry in entries]
    assert names[-6:] == ["scBERT", "scGPT and Tahoe-x1", "scFoundation", "STATE", "Heimdall",
                          "PCA"]  # fmt: skip
    needs = {entry.name for entry in entries[-6:] if entry.needs_vectors}
    assert needs == {"scBERT", "STATE"}
    with pytest.raises(ValueError, match="Did you mean 'scGPT and Tahoe-x1'"):
        published_encodings(names=["scGPT and Tahoe"])


@pytest.mark.parametrize("name", [e.title() for e in published_encodings()])
def test_each_trains_saves_and_embeds_alike(adata, make_vectors, train, tmp_path, name):
    sizes = {"d_model": 8, "n_heads": 2, "d_feedforward": 16, "context": 20}
    encoding = published_encodings(names=[name], model=sizes)[0]
    Model.setup_anndata(adata)
    vectors = None
    if encoding.gene_encoder == "protein":
        vectors = make_vectors(adata.var_names, 12)
    settings = encoding.settings(0)["model"]
    model = train(Model(adata, protein_embeddings=vectors, **settings), max_epochs=1)
    embedding = model.get_latent_representation()
    assert embedding.std(axis=0).min() > 0
    model.save(tmp_path / "model")
    again = Model.load(tmp_path / "model", adata).get_latent_representation(batch_size=7)
    assert abs(again - embedding).max() < 1e-5


def test_a_file_names_them(tmp_path):
    def titles(lines):
        path = tmp_path / "config.yaml"
        path.write_text("evaluate:\n  a: {file: a.h5ad, label_key: x}\nencodings:\n" + lines)
        return [e.title() for e in read_config(path).arguments()["encodings"]]

    grid_of_one = "  gene_encoders: [learned]\n  expression_encoders: [log]\n"
    assert titles(grid_of_one + "  published: true\n") == [
        "learned + log", "scBERT", "scGPT and Tahoe-x1", "scFoundation", "STATE", "Heimdall",
    ]  # fmt: skip
    assert titles(grid_of_one + "  depth_tokens: true\n  published: [STATE]\n") == [
        "learned + log", "learned + log (with depth token)", "STATE",
    ]  # fmt: skip
    assert titles(grid_of_one + "  published: false\n") == ["learned + log"]
    with pytest.raises(ValueError, match="encodings.published must be a list"):
        titles(grid_of_one + "  published: STATE\n")
