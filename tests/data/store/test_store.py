from __future__ import annotations

import json
import shutil
import sys
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scenc.data import CellFiles, CellStore, Tokenizer, build_store

pytest.importorskip("annbatch", reason="needs annbatch, of the extra scenc[atlas]")

SETTINGS = {"batch_key": "donor", "labels_key": "kind", "validation_size": 0.2, "test_size": 0.1}


@pytest.fixture(scope="module")
def files(atlas):
    return CellFiles(atlas[0], split_by="donor", chunk_size=4, progress=False, **SETTINGS)


@pytest.fixture(scope="module")
def path(files, tmp_path_factory):
    """Build a store of several data sets."""
    out = tmp_path_factory.mktemp("store") / "atlas.zarr"
    return build_store(files, out, dataset_size=150, cells_per_chunk=8, progress=False)


@pytest.fixture
def store(path):
    return CellStore(path, batch_size=16, buffer_size=64, chunk_size=8)


def counts_of(store, batches):
    """Counts that batches hold, by the cells' names."""
    found = {}
    for batch in batches:
        names = store.origin(batch.cells.numpy())
        values = batch.counts[batch.value_index].numpy()
        for i, (file, row) in enumerate(zip(names["src_path"], names["src_row"], strict=True)):
            n = int(batch.lengths[i])
            own = pd.Series(0.0, store.vocabulary)
            own.iloc[batch.genes[i, :n].numpy()] = values[i, :n]
            assert (file, row) not in found
            found[file, row] = own
    return found


def test_every_cell_is_there_once_with_its_counts(store, files, atlas):
    paths, table = atlas
    found = counts_of(store, store.predict_dataloader())
    assert len(found) == store.n_obs == len(table)
    numbers = {str(path): i for i, path in enumerate(paths)}
    starts = np.cumsum([0, 40, 53, 66, 79, 92])
    for (file, row), own in found.items():
        expected = table.iloc[starts[numbers[file]] + row]
        np.testing.assert_array_equal(own, expected[store.vocabulary])


def test_the_split_is_that_of_the_files(store, files):
    assert store.split_sizes == files.split_sizes
    for split in ("train", "validation", "test"):
        origin = store.origin(store.cells_of(split))
        own = set(zip(origin["src_path"], origin["src_row"], strict=True))
        numbers, rows = files.locate(files.cells_of(split))
        assert own == {(files.paths[f], r) for f, r in zip(numbers, rows, strict=True)}


def test_cells_are_shuffled_and_annbatch_reads_them_alone(path, store):
    import zarr
    from annbatch import DatasetCollection, Loader

    collection = DatasetCollection(zarr.open_group(path / "train", mode="r"))
    assert not collection.is_empty
    with warnings.catch_warnings():
        # What anndata, pandas and zarr tell annbatch of their futures.
        warnings.simplefilter("ignore")
        groups = list(collection)
        obs = pd.concat([anndata.io.read_elem(group["obs"]) for group in groups])
        var = anndata.io.read_elem(groups[0]["var"])
        loader = Loader(batch_size=64, chunk_size=16, preload_nchunks=4, preload_to_gpu=False)
        for group in groups:
            loader.add_dataset(anndata.io.sparse_dataset(group["X"]))
        total = sum(batch["X"].sum() for batch in loader)
    assert len(groups) == 2
    assert var.index.tolist() == store.vocabulary.tolist()
    assert len(obs) == store.split_sizes["train"]
    files = obs["src_path"].cat.codes.to_numpy()
    # Sorted, neighbours would be of one file nearly always; shuffled, about one time in six.
    assert (files[1:] == files[:-1]).mean() < 0.35
    np.testing.assert_allclose(total, store.counts(store.cells_of("train")).sum())


def test_the_store_says_what_the_files_say(store, files):
    assert store.vocabulary.tolist() == files.vocabulary.tolist()
    assert (store.measured == files.measured).all()
    assert store.paths == files.paths
    for field in ("batch", "labels"):
        np.testing.assert_equal(
            store.registry["field_registries"][field], files.registry["field_registries"][field]
        )
    train = store.cells_of("train")
    donors = np.asarray(store.column("donor"))[train]
    assert set(donors) == set(np.asarray(files.column("donor"))[files.cells_of("train")])


def test_the_order_does_not_depend_on_threads_or_ranks(path, as_rank):
    def order(**settings):
        store = CellStore(path, buffer_size=64, chunk_size=8, **settings)
        return [sorted(batch.cells.tolist()) for batch in store.train_dataloader()]

    one = order(batch_size=16, num_workers=1)
    assert one == order(batch_size=16, num_workers=4)
    assert one != order(batch_size=16, seed=1)
    parts = []
    for rank in range(2):
        as_rank(rank, 2)
        parts.append(order(batch_size=8))
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == one


def test_tokens_are_those_of_the_counts(path):
    tokenizer = Tokenizer(context=10, mask_fraction=0.5)
    store = CellStore(path, batch_size=16, tokenizer=tokenizer)
    everything = counts_of(store, CellStore(path).predict_dataloader())
    seeds = [request.seed for request in store.train_dataloader().requests]
    for batch, seed in zip(store.train_dataloader(), seeds, strict=True):
        names = store.origin(batch.cells.numpy())
        rows = [everything[key] for key in zip(names["src_path"], names["src_row"], strict=True)]
        matrix = sp.csr_matrix(np.array(rows, np.float32))
        expected = tokenizer(matrix, np.arange(len(rows)), np.arange(store.n_vars), seed)
        for name in ("lengths", "n_masked"):
            np.testing.assert_array_equal(getattr(batch, name), getattr(expected, name))
        # Stored in the same order, so drawn into the same order.
        np.testing.assert_array_equal(batch.genes, expected.genes)


def test_another_vocabulary_can_be_taken(path):
    store = CellStore(path)
    whole = counts_of(store, store.predict_dataloader())
    genes = store.vocabulary[10:30][::-1]
    store.use_vocabulary([*genes, "NOT_THERE"])
    for key, own in counts_of(store, store.predict_dataloader()).items():
        np.testing.assert_array_equal(own[genes], whole[key][genes])
        assert own["NOT_THERE"] == 0
    assert not store.measured[:, -1].any()
    with pytest.raises(ValueError, match="shares no gene with the vocabulary"):
        store.use_vocabulary(["CD3E"])


def test_paths_and_settings_may_be_given_instead(atlas, tmp_path):
    out = build_store(
        atlas[0][:2], tmp_path / "s.zarr", genes="intersection", validation_size=0, progress=False
    )
    store = CellStore(out)
    assert store.split_sizes == {"train": 93, "validation": 0, "test": 0}
    assert store.measured.all()
    assert store.val_dataloader() == []


def test_what_is_there_is_not_replaced_unasked(files, path, tmp_path):
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        build_store(files, path, progress=False)
    (tmp_path / "other.zarr").mkdir()
    with pytest.raises(FileExistsError, match="is no store of scenc: it is not replaced"):
        build_store(files, tmp_path / "other.zarr", overwrite=True, progress=False)
    with pytest.raises(ValueError, match=r"a store ends in \.zarr"):
        build_store(files, tmp_path / "store.h5ad")
    with pytest.raises(TypeError, match="genes belong"):
        build_store(files, tmp_path / "a.zarr", genes="union")
    copy = tmp_path / "copy.zarr"
    shutil.copytree(path, copy)
    build_store(files, copy, overwrite=True, dataset_size=1000, progress=False)
    assert CellStore(copy).n_obs == CellStore(path).n_obs
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.zarr", "other.zarr"]


def test_a_failure_leaves_nothing_behind(files, tmp_path, monkeypatch):
    from scenc.data.store import _build as _store

    monkeypatch.setattr(_store._Writer, "_read", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_store(files, tmp_path / "s.zarr", progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "does not describe a store of scenc"),
        ({"version": 2}, "is of version 2; 1 is read"),
        ({"vocabulary": ["A", "A"]}, "a gene stands twice"),
        ({"vocabulary": 3}, "vocabulary are no list of names"),
        ({"batch_key": "nothing"}, "batch_key is no column"),
        ({"measured": [[10**6]] * 6}, "measured does not name genes"),
        ({"measured": []}, "measured does not name genes"),
        ({"sizes": {"train": [1], "validation": [], "test": []}}, "cells, not 1"),
        ({"sizes": {"train": ["x"], "validation": [], "test": []}}, "sizes of train are no numb"),
        ({"sizes": {"train": [5] * 99, "validation": [], "test": []}}, "is damaged"),
    ],
)
def test_damaged_stores_are_refused(path, tmp_path, change, said):
    shutil.copytree(path, tmp_path / "s.zarr")
    card = tmp_path / "s.zarr" / "scenc.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), **change}))
    with pytest.raises(ValueError, match=said):
        CellStore(tmp_path / "s.zarr")


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no store of scenc"):
        CellStore(tmp_path)
    (tmp_path / "scenc.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        CellStore(tmp_path)


def test_without_annbatch_it_says_what_to_install(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "annbatch", None)
    monkeypatch.setattr("scenc.data.store._annbatch.find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"scenc\[atlas\]"):
        CellStore(path)
