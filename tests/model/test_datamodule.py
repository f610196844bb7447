"""Models of files of cells: trained by a datamodule, and embedding files."""

from __future__ import annotations

import itertools
import os
import signal
import time
from types import SimpleNamespace

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
import zarr

from scenc.data import CellFiles, CellFilesError, CellStore, build_store
from scenc.data.loading import _datamodule
from scenc.model import Model
from scenc.model._aligned_counts import align_streamed
from scenc.model._components import sample
from scenc.train import CheckpointError

SIZES = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_feedforward": 32, "expression_hidden": 16}
TRAINING = {"max_epochs": 2, "enable_progress_bar": False, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def make_cells(atlas):
    def make(**settings):
        given = {"batch_size": 16, "buffer_size": 64, "progress": False, "batch_key": "donor"}
        return CellFiles(atlas[0], **{**given, **settings})

    return make


@pytest.fixture(scope="module")
def cells(make_cells):
    return make_cells()


@pytest.fixture(scope="module")
def model(cells):
    """A model of all files, trained by the masked objective."""
    model = Model(datamodule=cells, objective="masked", context=20, **SIZES)
    model.train(**TRAINING)
    return model


@pytest.fixture(scope="module")
def joined(atlas):
    """All files as one AnnData."""
    table = atlas[1]
    obs = pd.DataFrame(index=table.index)
    return anndata.AnnData(
        sp.csr_matrix(table.to_numpy(np.float32)), obs, pd.DataFrame(index=table.columns)
    )


def test_no_batch_is_pinned_where_the_model_is_on_the_cpu(atlas, cells, tmp_path, monkeypatch):
    # Where there is a GPU, but not for this model; without one, page-locked memory is an error.
    there = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True))
    monkeypatch.setattr(_datamodule, "torch", there)
    model = Model(datamodule=cells, objective="masked", context=20, **SIZES)
    model.train(**{**TRAINING, "max_epochs": 1})
    model.embed_files(atlas[0][:1], tmp_path, progress=False)
    assert cells.pin_memory is None


def equal(one, two):
    pairs = zip(one.module.state_dict().items(), two.module.state_dict().items(), strict=True)
    return all(torch.equal(w, v) for (_, w), (_, v) in pairs)


def test_a_model_trains_on_files(model, cells):
    history = model.history
    assert model.is_trained
    assert list(model.vocabulary) == list(cells.vocabulary)
    np.testing.assert_array_equal(model.train_indices, cells.cells_of("train"))
    n_steps = 2 * len(cells.train_dataloader())
    assert len(history["train_loss"]) == n_steps
    losses = history["reconstruction_loss_validation"].iloc[:, 0]
    assert losses.iloc[-1] < losses.iloc[0]
    # The user's datamodule is as it was.
    assert cells.tokenizer.context is None
    assert cells.batch_size == 16


def test_the_batch_size_is_the_callers_then_the_datamodules_then_the_presets(make_cells):
    for given, own, expected in [(8, 16, 8), (None, 16, 16), (None, None, 64)]:
        cells = make_cells(batch_size=own)
        model = Model(datamodule=cells, objective="masked", **SIZES)
        model.train(**{**TRAINING, "max_epochs": 1}, batch_size=given)
        assert model.train_config.batch_size == expected
        n_cells = cells.split_sizes["train"]
        assert len(model.history["train_loss"]) == -(-n_cells // expected)


def test_training_on_is_a_new_epoch(cells):
    once, twice = (Model(datamodule=cells, objective="masked", **SIZES) for _ in range(2))
    once.train(**TRAINING)
    twice.train(**{**TRAINING, "max_epochs": 1})
    twice.train(**{**TRAINING, "max_epochs": 1}, datamodule=cells)
    assert once._n_epochs == twice._n_epochs == 2
    assert len(once.history["train_loss"]) == len(twice.history["train_loss"])


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_embedded_files_are_what_the_cells_in_memory_give(model, atlas, joined, tmp_path, suffix):
    expected = model.get_latent_representation(joined, key_added=None)
    written = model.embed_files(atlas[0], tmp_path, format=suffix, progress=False)
    assert [path.name for path in written] == [f"{p.stem}.{suffix}" for p in atlas[0]]
    found = [anndata.read_h5ad(p) if suffix == "h5ad" else anndata.read_zarr(p) for p in written]
    assert np.concatenate([a.obs_names for a in found]).tolist() == joined.obs_names.tolist()
    embedding = np.concatenate([adata.obsm["X_scenc"] for adata in found])
    np.testing.assert_allclose(embedding, expected, rtol=1e-4, atol=1e-5)
    source = anndata.read_h5ad(atlas[0][0])
    pd.testing.assert_frame_equal(found[0].obs, source.obs)
    assert found[0].n_vars == 0
    assert found[0].uns["X_scenc_genes"]["n_matched"] == 45


def test_large_files_are_written_piece_by_piece(model, atlas, cells, tmp_path):
    # Buffers of 64 cells and batches of 7, in files of 40 to 105 cells.
    (whole,) = model.embed_files(atlas[0][-1:], tmp_path / "whole", progress=False)
    pieces = model.embed_files(cells, tmp_path / "pieces", batch_size=7, progress=False)[-1]
    with h5py.File(whole) as one, h5py.File(pieces) as two:
        a, b = one["obsm/X_scenc"][:], two["obsm/X_scenc"][:]
    assert len(a) > 64
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_empty_cells_are_embedded_as_zeros_and_counted(model, write_cells, tmp_path):
    counts = np.zeros((5, 40), np.float32)
    counts[[0, 2]] = 1
    write_cells(tmp_path / "few.h5ad", counts=counts)
    with pytest.warns(UserWarning, match="3 cells have no counts"):
        (path,) = model.embed_files([tmp_path / "few.h5ad"], tmp_path / "out", progress=False)
    embedding = anndata.read_h5ad(path).obsm["X_scenc"]
    assert (embedding != 0).any(axis=1).tolist() == [True, False, True, False, False]


def test_resuming_with_other_files_says_which(write_cells, tmp_path):
    paths = {name: tmp_path / f"{name}.h5ad" for name in "abc"}
    for seed, path in enumerate(paths.values()):
        write_cells(path, seed=seed)

    def train(names, genes="union", **more):
        files = [paths[name] for name in names]
        cells = CellFiles(files, genes=genes, progress=False)
        model = Model(datamodule=cells, objective="masked", **SIZES)
        model.train(
            1, accelerator="cpu", checkpoint_dir=tmp_path / "run", enable_progress_bar=False, **more
        )

    train("ab")
    for names, said in {
        "ba": r"its files are the same, but came in another order \(a.h5ad, b.h5ad\)",
        "ac": r"of its files, 1 are new \(c.h5ad\) and 1 are missing now \(b.h5ad\)",
    }.items():
        with pytest.raises(CheckpointError, match=said):
            train(names, resume=True)
    some = [f"FAKE{i}" for i in range(38)]
    with pytest.raises(CheckpointError, match=r"of its genes, 2 are missing now \(FAKE38, FAKE39"):
        train("ab", some, resume=True)
    with pytest.raises(CheckpointError, match="its genes are the same, but came in another order"):
        train("ab", [f"FAKE{i}" for i in range(39, -1, -1)], resume=True)
    train("ab", resume=True)


def test_files_are_not_overwritten_or_confused(model, atlas, write_cells, tmp_path):
    first = atlas[0][0]
    model.embed_files([first], tmp_path, progress=False)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.embed_files([first], tmp_path, progress=False)
    model.embed_files([first], tmp_path, progress=False, overwrite=True)
    with pytest.raises(ValueError, match="one of the files to read"):
        model.embed_files([first], first.parent, progress=False, overwrite=True)
    (tmp_path / "b").mkdir()
    write_cells(tmp_path / "b" / "a.h5ad")
    written = model.embed_files([first, tmp_path / "b" / "a.h5ad"], tmp_path / "d", progress=False)
    assert [path.name for path in written] == [f"{first.parent.name}_a.h5ad", "b_a.h5ad"]
    write_cells(tmp_path / "b" / "a.zarr")
    with pytest.raises(ValueError, match="Two files are called a"):
        model.embed_files([tmp_path / "b" / "a.h5ad", tmp_path / "b" / "a.zarr"], tmp_path / "c")
    write_cells(tmp_path / "alien.h5ad", genes=[f"ALIEN{i}" for i in range(40)])
    with pytest.raises(CellFilesError, match="alien"):
        model.embed_files([tmp_path / "alien.h5ad"], tmp_path / "c", progress=False)
    assert not (tmp_path / "c").exists()


def test_a_failure_leaves_no_file(model, atlas, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no memory")

    monkeypatch.setattr(model.module, "embed_cells", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        model.embed_files(atlas[0], tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_model_of_files_embeds_cells(model, joined, tmp_path):
    model.save(tmp_path / "model")
    again = Model.load(tmp_path / "model")
    one, two = (m.get_latent_representation(joined, key_added=None) for m in (model, again))
    np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match=r"embed_files"):
        again.get_latent_representation()


def test_data_must_be_of_one_kind(adata, cells):
    Model.setup_anndata(adata)
    with pytest.raises(TypeError, match="either adata or datamodule"):
        Model(adata, datamodule=cells)
    with pytest.raises(TypeError, match="either adata or datamodule"):
        Model()


def test_a_model_of_an_anndata_trains_on_files_too(joined, cells):
    query = joined[:100, ::-1].copy()
    Model.setup_anndata(query)
    model = Model(query, objective="masked", **SIZES)
    model.train(**TRAINING, datamodule=cells)
    np.testing.assert_array_equal(model.train_indices, cells.cells_of("train"))


def test_counts_in_memory_are_those_of_an_anndata(make_cells, joined):
    genes = joined.var_names[5:35].tolist()
    cells = make_cells(genes=genes)
    cells.use_vocabulary(genes, joined.var_names.drop(genes))
    rows = np.arange(3, 200, 7)
    streamed = align_streamed(cells, rows)
    values = sample(streamed, len(genes), 1e4, seed=0).toarray()
    counts = joined.X[rows].toarray()
    expected = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)[:, 5:35]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.* lacks 15 of 60 genes")
def test_the_default_objective_takes_files_into_memory(cells, joined, tmp_path, atlas):
    model = Model(datamodule=cells, n_top_genes=30, **SIZES)
    assert model.config.objective == "generative"
    assert len(model.vocabulary) == 30
    model.is_trained = True
    start = model.get_latent_representation(joined, key_added=None)
    model.train(**TRAINING)
    # As many batches as donors are told apart.
    assert len(cells.column("donor").categories) == 30
    assert model.history["validation_loss"].notna().all().all()
    embedding = model.get_latent_representation(joined, key_added=None)
    assert np.linalg.matrix_rank(embedding) == embedding.shape[1]
    assert not np.allclose(embedding, start)
    (path, *_) = model.embed_files(atlas[0], tmp_path, progress=False)
    found = anndata.read_h5ad(path).obsm["X_scenc"]
    np.testing.assert_allclose(found, embedding[: len(found)], rtol=1e-3, atol=1e-5)


def test_variable_genes_of_files_are_those_of_an_anndata(cells, joined):
    n_cells = cells.cells_of("train")
    own = joined[n_cells].copy()
    Model.setup_anndata(own)
    settings = {"n_top_genes": 20, "objective": "contrastive", **SIZES}
    expected = Model(own, **settings)
    without = CellFiles(cells.paths, batch_size=16, progress=False)
    np.testing.assert_array_equal(without.cells_of("train"), n_cells)
    found = Model(datamodule=without, **settings)
    assert set(found.vocabulary) == set(expected.vocabulary)


def test_global_edges_are_found_by_a_sample(cells):
    model = Model(
        datamodule=cells,
        expression_encoder="hard",
        hard_edges="global",
        objective="masked",
        **SIZES,
    )
    edges = model.module.expression_encoder.edges
    assert (edges.diff() >= 0).all()
    assert edges[-1] > edges[0]


def test_a_store_serves_as_files_do(make_cells, tmp_path):
    pytest.importorskip("annbatch", reason="needs annbatch, of the extra scenc[atlas]")
    build_store(make_cells(), tmp_path / "store.zarr", progress=False)
    model = Model(datamodule=CellStore(tmp_path / "store.zarr"), objective="masked", **SIZES)
    model.train(**TRAINING)
    losses = model.history["reconstruction_loss_validation"].iloc[:, 0]
    assert losses.iloc[-1] < losses.iloc[0]


def test_resuming_checks_its_arguments(cells, tmp_path):
    model = Model(datamodule=cells, objective="masked", **SIZES)
    with pytest.raises(ValueError, match="needs the checkpoint_dir"):
        model.train(**TRAINING, resume=True)
    model.train(**TRAINING, checkpoint_dir=tmp_path)
    other = Model(datamodule=cells, objective="masked", **{**SIZES, "d_model": 32})
    with pytest.raises(CheckpointError, match="its d_model is 16, now it is 32"):
        other.train(**TRAINING, checkpoint_dir=tmp_path, resume=True)


@pytest.mark.parametrize("objective", ["masked", "contrastive", "generative"])
def test_resumed_training_of_an_anndata_ends_the_same(adata, tmp_path, objective):
    Model.setup_anndata(adata, batch_key="batch")
    whole, broken, resumed = (
        Model(adata, objective=objective, dropout=0.1, **SIZES) for _ in range(3)
    )
    whole.train(**TRAINING, batch_size=16)
    _break_off(broken, tmp_path, at=9, batch_size=16)
    resumed.train(**TRAINING, batch_size=16, checkpoint_dir=tmp_path, resume=True)
    assert equal(whole, resumed)
    for name, curve in whole.history.items():
        pd.testing.assert_frame_equal(curve, resumed.history[name])
    assert resumed._n_epochs == whole._n_epochs


def test_a_generative_training_without_neighbours_streams(make_cells, monkeypatch, tmp_path):
    cells = make_cells()
    settings = {"objective": "generative", "n_top_genes": 30, **SIZES}
    whole, broken, resumed = (Model(datamodule=cells, **settings) for _ in range(3))
    # What holds all cells in memory asks for them here.
    monkeypatch.setattr(CellFiles, "counts", None)
    streamed = {**TRAINING, "same_cell": 1.0, "decoder_steps": 0}
    whole.train(**streamed)
    assert whole.covariates["batch"] == sorted(cells.column("donor").categories)
    losses = whole.history["count_loss_validation"].iloc[:, 0]
    assert losses.iloc[-1] < losses.iloc[0]
    _break_off(broken, tmp_path, at=9, same_cell=1.0, decoder_steps=0)
    resumed.train(**streamed, checkpoint_dir=tmp_path, resume=True)
    assert equal(whole, resumed)


def test_the_decoder_is_fitted_to_a_sample_of_streamed_cells(make_cells, monkeypatch):
    monkeypatch.setattr("scenc.model._decoder_fit._N_TRAIN", 20)
    monkeypatch.setattr("scenc.model._decoder_fit._N_VALIDATION", 5)
    read = []
    counts = CellFiles.counts
    monkeypatch.setattr(
        CellFiles, "counts", lambda self, rows: read.append(len(rows)) or counts(self, rows)
    )
    cells = make_cells()
    settings = {"objective": "generative", "n_top_genes": 30, **SIZES}
    plain, fitted = (Model(datamodule=cells, **settings) for _ in range(2))
    plain.train(**TRAINING, same_cell=1.0, decoder_steps=0)
    read.clear()
    fitted.train(**TRAINING, same_cell=1.0, decoder_steps=40)
    assert read == [25]
    for name, weights in plain.module.state_dict().items():
        if not name.startswith("count_decoder"):
            assert torch.equal(weights, fitted.module.state_dict()[name])


def test_files_lack_further_covariates_of_a_decoder(cells, joined):
    adata = joined.copy()
    adata.obs["plate"] = np.where(np.arange(adata.n_obs) % 2, "p", "q")
    Model.setup_anndata(adata, categorical_covariate_keys=["plate"])
    model = Model(adata, objective="generative", n_top_genes=30, **SIZES)
    with pytest.raises(ValueError, match="cells to train on have no plate"):
        model.train(**TRAINING, datamodule=cells)


def _break_off(model, folder, at, **settings):
    from lightning.pytorch import Callback

    class Stop(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == at:
                raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"):
        model.train(
            **TRAINING, **settings, checkpoint_dir=folder, checkpoint_every=2, callbacks=[Stop()]
        )


SCRIPT = """
from lightning.pytorch import Callback
from scenc.data import CellFiles
from scenc.model import Model

class Slow(Callback):
    def on_train_batch_end(self, *_):
        import time
        time.sleep(0.05)

cells = CellFiles(paths, batch_size=16, buffer_size=64, progress=False)
model = Model(datamodule=cells, objective="masked", d_model=16, n_layers=1, n_heads=2,
              d_feedforward=32, expression_hidden=16, dropout=0.1)
model.train(max_epochs=20, enable_progress_bar=False, accelerator="cpu", checkpoint_dir=folder,
            checkpoint_every=3, callbacks=[Slow()])
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(atlas, tmp_path, processes):
    settings = {**TRAINING, "max_epochs": 20}
    cells = CellFiles(atlas[0], batch_size=16, buffer_size=64, progress=False)
    whole, resumed = (
        Model(datamodule=cells, objective="masked", dropout=0.1, **SIZES) for _ in range(2)
    )
    whole.train(**settings)
    given = {"paths": atlas[0], "folder": tmp_path / "run"}
    process = processes.Process(target=exec, args=(SCRIPT, given))
    process.start()
    path = tmp_path / "run" / "last.ckpt"
    for _ in itertools.takewhile(lambda _: not path.exists(), range(6000)):
        assert process.is_alive()
        time.sleep(0.05)
    time.sleep(1)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    step = torch.load(path, weights_only=True)["global_step"]
    assert 0 < step < len(whole.history["train_loss"])
    resumed.train(**settings, checkpoint_dir=tmp_path / "run", checkpoint_every=3, resume=True)
    assert equal(whole, resumed)


def test_a_file_that_fails_is_named_and_training_can_go_on(atlas, tmp_path, write_cells):
    path = tmp_path / "only.h5ad"
    write_cells(path, n_cells=200)
    settings = {**TRAINING, "max_epochs": 4, "checkpoint_dir": tmp_path / "run"}

    def make():
        cells = CellFiles([path], batch_size=16, buffer_size=32, progress=False)
        return Model(datamodule=cells, objective="masked", **SIZES)

    whole, broken, resumed = make(), make(), make()
    whole.train(**{**settings, "checkpoint_dir": None})
    reader = broken._datamodule._reader
    gather, calls = reader.gather, itertools.count()

    def fail(numbers):
        if next(calls) > 12:
            raise OSError("Can't read data")
        return gather(numbers)

    reader.gather = fail
    with pytest.raises(OSError, match="Can't read data"):
        broken.train(**settings, checkpoint_every=1)
    resumed.train(**settings, checkpoint_every=1, resume=True)
    assert equal(whole, resumed)


def test_zarr_is_readable_by_zarr(model, atlas, tmp_path):
    (path,) = model.embed_files(atlas[0][:1], tmp_path, format="zarr", progress=False)
    assert zarr.open_group(path, mode="r")["obsm/X_scenc"].shape == (40, 16)
