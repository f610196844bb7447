from __future__ import annotations

import hashlib
import json
import pickle
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from scenc.model import Model, ModelFileError

CARD, WEIGHTS = "model.json", "weights.safetensors"


@pytest.fixture
def folder(trained, tmp_path):
    """A saved model, to be damaged."""
    trained.save(tmp_path / "model")
    return tmp_path / "model"


def sign(folder):
    """Make the card vouch for the weights that are there."""
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    edit(folder, lambda card: card.update(sha256=digest))


def edit(folder, change):
    """Change the card."""
    card = json.loads((folder / CARD).read_text())
    change(card)
    (folder / CARD).write_text(json.dumps(card))


def change_weights(folder, change):
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    safetensors.torch.save_file(change(weights), folder / WEIGHTS)
    sign(folder)


def test_a_saved_model_embeds_the_same(adata, make_model, train, tmp_path, encoding):
    model = train(make_model(adata, dropout=0.1, **encoding))
    embedding = model.get_latent_representation()
    errors = model.get_reconstruction_error()
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model")
    query = adata.copy()
    np.testing.assert_array_equal(loaded.get_latent_representation(query), embedding)
    np.testing.assert_array_equal(loaded.get_reconstruction_error(query), errors)
    np.testing.assert_array_equal(loaded.get_gene_embeddings(), model.get_gene_embeddings())


def test_what_a_model_knows_of_itself_survives(trained, folder):
    loaded = Model.load(folder)
    assert loaded.config == trained.config
    assert loaded.preset == trained.preset
    assert loaded.train_config == trained.train_config
    assert loaded.vocabulary.equals(trained.vocabulary)
    assert loaded.is_trained
    assert loaded.history.keys() == trained.history.keys()
    for name, frame in trained.history.items():
        assert loaded.history[name].equals(frame)
    assert not loaded.module.training


def test_an_untrained_model_stays_untrained(adata, make_model, tmp_path):
    make_model(adata).save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", adata)
    assert not loaded.is_trained
    assert loaded.history is None
    with pytest.raises(RuntimeError, match="not trained"):
        loaded.get_latent_representation()


def test_a_model_without_data_asks_for_them(trained, folder, adata):
    loaded = Model.load(folder)
    with pytest.raises(ValueError, match="no AnnData of its own"):
        loaded.get_latent_representation()
    with pytest.raises(ValueError, match="no AnnData of its own"):
        loaded.train(enable_progress_bar=False)
    loaded.attach(adata)
    np.testing.assert_array_equal(
        loaded.get_latent_representation(), trained.get_latent_representation(key_added=None)
    )


def test_data_attached_on_loading_are_matched_by_name(trained, folder, adata):
    order = np.random.default_rng(0).permutation(60)
    loaded = Model.load(folder, adata[:, order].copy())
    np.testing.assert_allclose(
        loaded.get_latent_representation(),
        trained.get_latent_representation(key_added=None),
        atol=1e-5,
    )


@pytest.mark.parametrize("lacking", ["batch", "cell_type"])
def test_attached_data_need_the_columns_of_the_setup(folder, adata, lacking):
    del adata.obs[lacking]
    with pytest.raises(KeyError, match=lacking):
        Model.load(folder, adata)


def test_new_batches_and_labels_may_be_attached(folder, adata, train):
    adata.obs["batch"] = ["another"] * 120
    adata.obs["cell_type"] = ["type0", "new"] * 60
    train(Model.load(folder, adata), max_epochs=1)


@pytest.mark.parametrize("damage", ["folder", CARD, WEIGHTS])
def test_missing_files_are_named(folder, damage):
    if damage == "folder":
        with pytest.raises(FileNotFoundError, match="no_model"):
            Model.load(folder / "no_model")
        return
    (folder / damage).unlink()
    with pytest.raises(FileNotFoundError, match=damage):
        Model.load(folder)


def truncate(folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def truncate_header(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:20])


def empty(folder):
    (folder / WEIGHTS).write_bytes(b"")


def flip_a_bit(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)


DAMAGED_WEIGHTS = [truncate, truncate_header, empty, flip_a_bit]


@pytest.mark.parametrize("damage", DAMAGED_WEIGHTS)
def test_damaged_weights_are_refused(folder, damage):
    damage(folder)
    with pytest.raises(ModelFileError, match="checksums differ"):
        Model.load(folder)


@pytest.mark.parametrize("damage", DAMAGED_WEIGHTS[:3])
def test_damaged_weights_are_refused_even_if_the_card_vouches_for_them(folder, damage):
    damage(folder)
    sign(folder)
    with pytest.raises(ModelFileError, match="damaged"):
        Model.load(folder)


def test_weights_of_another_model_are_refused(folder, adata, make_model, tmp_path):
    make_model(adata, n_layers=1).save(tmp_path / "other")
    (tmp_path / "other" / WEIGHTS).replace(folder / WEIGHTS)
    with pytest.raises(ModelFileError, match="checksums differ"):
        Model.load(folder)
    sign(folder)
    with pytest.raises(ModelFileError, match=r"1 layers instead of 2"):
        Model.load(folder)


def renamed(weights):
    return {name.replace("decoder", "other"): w for name, w in weights.items()}


def with_one_more(weights):
    return {**weights, "more": torch.zeros(3)}


def transposed(weights):
    return {**weights, "decoder.2.weight": weights["decoder.2.weight"].T.contiguous()}


def as_doubles(weights):
    return {name: w.double() if w.is_floating_point() else w for name, w in weights.items()}


def as_integers(weights):
    return {name: w.long() for name, w in weights.items()}


@pytest.mark.parametrize("change", [renamed, with_one_more, transposed, as_doubles, as_integers])
def test_weights_that_do_not_fit_are_refused(folder, change):
    change_weights(folder, change)
    with pytest.raises(ModelFileError, match="do not fit the description"):
        Model.load(folder)


EDITS = {
    "d_model": lambda card: card["config"].update(d_model=32),
    "huge d_model": lambda card: card["config"].update(d_model=2**22),
    "absurd d_model": lambda card: card["config"].update(d_model=2**62),
    "text d_model": lambda card: card["config"].update(d_model="16"),
    "negative layers": lambda card: card["config"].update(n_layers=-1),
    "fewer layers": lambda card: card["config"].update(n_layers=1),
    "huge hidden layer": lambda card: card["config"].update(expression_hidden=2**40),
    "other encoder": lambda card: card["config"].update(expression_encoder="log"),
    "protein encoder": lambda card: card["config"].update(gene_encoder="protein"),
    "unknown encoder": lambda card: card["config"].update(expression_encoder="magic"),
    "unknown setting": lambda card: card["config"].update(magic=1),
    "config as text": lambda card: card.update(config="small"),
    "shorter vocabulary": lambda card: card["vocabulary"].pop(),
    "longer vocabulary": lambda card: card["vocabulary"].append("MORE"),
    "repeated gene": lambda card: card["vocabulary"].__setitem__(0, card["vocabulary"][1]),
    "vocabulary as number": lambda card: card.update(vocabulary=60),
    "registry as text": lambda card: card.update(registry="none"),
    "registry without fields": lambda card: card["registry"].update(field_registries={}),
    "registry without arguments": lambda card: card["registry"].pop("setup_args"),
    "arguments as list": lambda card: card["registry"].update(setup_args=[]),
    "registry of another method": lambda card: card["registry"].update(setup_method_name="load"),
    "vocabulary as text": lambda card: card.update(vocabulary="A" * 60),
    "genes as numbers": lambda card: card.update(vocabulary=list(range(60))),
    "a gene without name": lambda card: card["vocabulary"].__setitem__(3, ""),
    "a million layers": lambda card: card["config"].update(n_layers=10**6),
    "wrong bins": lambda card: card["config"].update(expression_encoder="hard", hard_edges="cell"),
    "history as list": lambda card: card.update(history=[1]),
    "uneven history": lambda card: card["history"]["train_loss"]["step"].pop(),
    "steps as text": lambda card: card.update(n_steps="many"),
    "bad training": lambda card: card["train_config"].update(lr=-1),
    "unknown preset": lambda card: card.update(preset="enormous"),
    **{
        f"no {key}": lambda card, key=key: card.pop(key)
        for key in ("config", "vocabulary", "registry", "history", "n_epochs", "preset",
                    "is_trained", "train_config")
    },
}  # fmt: skip


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_a_card_that_lies_is_refused_without_allocating(folder, change):
    edit(folder, change)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=re.escape(str(folder))):
            Model.load(folder)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "damaged"),
        ("{", "damaged"),
        ("not json", "damaged"),
        ("[" * 100_000, "damaged"),
        (b"\xff\xfe\x00", "damaged"),
        ("[]", "does not describe a scenc model"),
        ("{}", "does not describe a scenc model"),
        ('{"format": "other-model", "version": 1}', "does not describe a scenc model"),
    ],
)
def test_foreign_cards_are_refused(folder, content, message):
    content = content.encode() if isinstance(content, str) else content
    (folder / CARD).write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        Model.load(folder)


def test_newer_formats_are_refused(folder):
    edit(folder, lambda card: card.update(version=card["version"] + 1))
    with pytest.raises(ModelFileError, match="format version 3; this scenc reads 2"):
        Model.load(folder)


class Payload:
    """Leaves a trace if it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("how", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_a_pickle_in_place_of_the_weights_is_not_executed(folder, tmp_path, how):
    trace = tmp_path / "executed"
    with (folder / WEIGHTS).open("wb") as file:
        how(Payload(trace), file)
    for prepare in (lambda _: None, sign):
        prepare(folder)
        with pytest.raises(ModelFileError):
            Model.load(folder)
    assert not trace.exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(folder, value):
    def spoil(weights):
        weights["mask_token"][3] = value
        return weights

    change_weights(folder, spoil)
    with pytest.raises(ModelFileError, match="mask_token holds NaN or infinite values"):
        Model.load(folder)


def test_pickles_beside_the_model_are_ignored(trained, folder, tmp_path):
    trace = tmp_path / "executed"
    for name in ("model.pt", "attr.pkl", "adata.h5ad"):
        (folder / name).write_bytes(pickle.dumps(Payload(trace)))
    loaded = Model.load(folder)
    assert loaded.vocabulary.equals(trained.vocabulary)
    assert not trace.exists()


def test_losses_that_are_not_finite_can_be_saved(adata, make_model, train, tmp_path):
    model = train(make_model(adata))
    curve = model.history["reconstruction_loss_validation"]
    curve.iloc[1] = np.nan
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model").history["reconstruction_loss_validation"]
    np.testing.assert_array_equal(loaded, curve)


def write_protein_model(adata, make_model, folder):
    make_model(adata, gene_encoder="protein").save(folder)
    return "gene_encoder.vectors"


def write_edge_model(adata, make_model, folder):
    make_model(adata, expression_encoder="hard", hard_edges="global").save(folder)
    return "expression_encoder.edges"


@pytest.mark.parametrize("write", [write_protein_model, write_edge_model])
@pytest.mark.parametrize("change", [None, lambda w: w.reshape(-1)[:1], lambda w: w.reshape(-1)[0]])
def test_buffers_that_do_not_fit_are_refused(adata, make_model, tmp_path, write, change):
    folder = tmp_path / "model"
    name = write(adata, make_model, folder)

    def spoil(weights):
        wrong = {} if change is None else {name: change(weights[name]).clone()}
        return {**{n: w for n, w in weights.items() if n != name}, **wrong}

    change_weights(folder, spoil)
    with pytest.raises(ModelFileError, match=re.escape(str(folder))):
        Model.load(folder)


def test_existing_folders_are_replaced_only_if_asked(trained, folder, adata, make_model):
    before = (folder / CARD).read_text()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        trained.save(folder)
    assert (folder / CARD).read_text() == before
    other = make_model(adata, n_layers=1)
    (folder / "notes.txt").write_text("mine")
    other.save(folder, overwrite=True)
    assert Model.load(folder).config.n_layers == 1
    assert sorted(path.name for path in folder.iterdir()) == [CARD, WEIGHTS]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_model_is_never_replaced(trained, tmp_path, kind):
    target = tmp_path / "thesis"
    if kind == "folder":
        target.mkdir()
        (target / "chapter.txt").write_text("text")
    else:
        target.write_text("text")
    with pytest.raises(FileExistsError, match="holds no scenc model"):
        trained.save(target, overwrite=True)
    assert (target / "chapter.txt" if kind == "folder" else target).read_text() == "text"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_a_failed_save_leaves_the_old_model(trained, folder, monkeypatch):
    before = (folder / CARD).read_text()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("scenc.io._model_files._digest", fail)
    with pytest.raises(OSError, match="disk full"):
        trained.save(folder, overwrite=True)
    monkeypatch.undo()
    assert (folder / CARD).read_text() == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    Model.load(folder)


def test_saved_files_are_plain_and_readable(folder):
    assert sorted(path.name for path in folder.iterdir()) == [CARD, WEIGHTS]
    assert folder.stat().st_mode & 0o500 == 0o500
    card = json.loads((folder / CARD).read_text())
    assert card["format"] == "scenc-model"
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    assert "gene_encoder.embedding.weight" in weights


def test_parents_are_made(trained, tmp_path):
    trained.save(tmp_path / "a" / "b" / "model")
    assert Model.load(str(tmp_path / "a" / "b" / "model")).is_trained
