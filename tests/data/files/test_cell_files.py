from __future__ import annotations

import warnings

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scenc
from scenc.data import CellFiles, CellFilesError, Tokenizer

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def cells(atlas):
    return CellFiles(
        atlas[0], batch_key="donor", labels_key="kind", batch_size=16, buffer_size=64, **QUIET
    )


def counts_of(batches, n_cells, genes):
    """Counts that token batches hold, cells x genes; NaN for cells that are in none."""
    found = np.full((n_cells, len(genes)), np.nan)
    for batch in batches:
        values = batch.counts[batch.value_index].numpy()
        for i, cell in enumerate(batch.cells.tolist()):
            assert np.isnan(found[cell]).all()
            n = int(batch.lengths[i])
            found[cell] = 0
            found[cell, batch.genes[i, :n].numpy()] = values[i, :n]
    return pd.DataFrame(found, columns=genes)


def tokens_of(batch):
    """Each cell's masked and other tokens, whatever their order."""
    for i in range(batch.n_cells):
        n, masked = int(batch.lengths[i]), int(batch.n_masked[i])
        at = batch.value_index[i, :n]
        values = (batch.normalized[at], batch.counts[at], batch.quantile_bins[at])
        tokens = list(zip(batch.genes[i, :n].tolist(), *(v.tolist() for v in values), strict=True))
        yield sorted(tokens[:masked]), sorted(tokens[masked:])


def test_files_of_every_form_give_their_counts(cells, atlas):
    paths, table = atlas
    assert set(cells.vocabulary) == set(table.columns)
    found = counts_of(cells.predict_dataloader(), len(table), cells.vocabulary)
    np.testing.assert_array_equal(found, table[cells.vocabulary])
    assert [file.counts for file in cells.report.files] == [
        "X (csr)",
        "raw/X (csc)",
        "X (dense)",
        "X (csr)",
        "X (csr)",
        "raw/X (dense)",
    ]


def test_training_visits_the_cells_to_train_on(cells, atlas):
    table = atlas[1]
    found = counts_of(cells.val_dataloader(), len(table), cells.vocabulary)
    train = np.concatenate([batch.cells.numpy() for batch in cells.train_dataloader()])
    assert set(train) == set(cells.cells_of("train"))
    assert set(found.dropna().index) == set(cells.cells_of("validation"))
    assert cells.split_sizes == {"train": len(table) - 44, "validation": 44, "test": 0}
    assert cells.test_dataloader() == []


def test_tokens_are_those_of_the_same_cells_in_memory(atlas):
    """Draws and masks too: they follow from the seed and a cell's content."""
    paths, table = atlas
    tokenizer = Tokenizer(context=10, mask_fraction=0.5, quantile_bins=4)
    cells = CellFiles(paths, batch_size=16, tokenizer=tokenizer, genes=list(table.columns), **QUIET)
    matrix = sp.csr_matrix(table.to_numpy())
    seeds = [request.seed for request in cells.train_dataloader().requests]
    for batch, seed in zip(cells.train_dataloader(), seeds, strict=True):
        rows = batch.cells.numpy()
        expected = tokenizer(matrix, rows, np.arange(60), seed)
        for name in ("lengths", "n_masked"):
            np.testing.assert_array_equal(getattr(batch, name), getattr(expected, name))
        for own, other in zip(tokens_of(batch), tokens_of(expected), strict=True):
            assert own == other


def test_one_file_can_be_read_by_itself(cells, atlas):
    paths, table = atlas
    numbers = np.concatenate([b.cells.numpy() for b in cells.predict_dataloader(2)])
    files, rows = cells.locate(np.sort(numbers))
    assert set(files) == {2}
    assert rows.tolist() == list(range(66))
    assert table.index[numbers.min()] == "c_0"


def test_what_is_not_measured_is_told_from_zero(cells, atlas):
    paths, table = atlas
    for file, path in enumerate(paths):
        reader = anndata.read_zarr if path.suffix == ".zarr" else anndata.read_h5ad
        own = set(reader(path).var_names)
        assert set(cells.vocabulary[cells.measured[file]]) == own


def test_vocabularies(atlas):
    paths, table = atlas
    names = [set(anndata.read_h5ad(path).var_names) for path in paths if path.suffix == ".h5ad"]
    files = [path for path in paths if path.suffix == ".h5ad"]
    common = CellFiles(files, genes="intersection", **QUIET)
    assert set(common.vocabulary) == set.intersection(*names)
    assert common.measured.all()
    wanted = ["FAKE3", "FAKE1", "NOT_THERE", *[f"FAKE{i}" for i in range(20, 40)]]
    given = CellFiles(files, genes=wanted, **QUIET)
    assert given.vocabulary.tolist() == wanted
    found = counts_of(given.predict_dataloader(), given.n_obs, wanted)
    expected = table.iloc[: 40 + 53 + 66].assign(NOT_THERE=0)
    e = table.loc[table.index.str.startswith("e_")].assign(NOT_THERE=0)
    np.testing.assert_array_equal(found, pd.concat([expected, e])[wanted])


def test_another_vocabulary_can_be_taken(atlas):
    paths, table = atlas
    cells = CellFiles(paths, **QUIET)
    genes = table.columns[10:40]
    cells.use_vocabulary(genes)
    found = counts_of(cells.predict_dataloader(), len(table), genes)
    np.testing.assert_array_equal(found, table[genes])
    with pytest.raises(CellFilesError, match="only 0 of its 45 genes are among the 2"):
        cells.use_vocabulary(["CD3E", "MS4A1"])


def test_names_of_one_gene_find_each_other(tmp_path, write_cells):
    symbols, ids = (
        ["CD3E", "MS4A1", "INTS11"],
        [
            "ENSG00000127054.3",
            "ENSG00000198851",
            "ENSG00000156738",
        ],
    )
    counts = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)
    write_cells(tmp_path / "s.h5ad", symbols, counts=counts)
    write_cells(tmp_path / "e.h5ad", ids, counts=counts)
    cells = CellFiles([tmp_path / "s.h5ad", tmp_path / "e.h5ad"], **QUIET)
    assert cells.vocabulary.tolist() == symbols
    found = counts_of(cells.predict_dataloader(), 4, symbols)
    assert found.to_numpy()[2:].tolist() == [[2, 3, 1], [5, 6, 4]]


def test_gene_names_may_stand_in_a_column(tmp_path, write_cells):
    adata = write_cells(tmp_path / "a.h5ad", n_cells=20)
    adata.var["ids"] = [f"G{i}" for i in range(40)]
    adata.uns = {}
    adata.write_h5ad(tmp_path / "b.h5ad")
    cells = CellFiles([tmp_path / "b.h5ad"], gene_ids="ids", **QUIET)
    assert cells.vocabulary[:2].tolist() == ["G0", "G1"]


def test_layers_may_differ_by_file(tmp_path, write_cells):
    a, b = tmp_path / "a.h5ad", tmp_path / "b.h5ad"
    one = write_cells(a, seed=1, place="counts").uns["counts"]
    two = write_cells(b, seed=2).uns["counts"]
    cells = CellFiles([a, b], layer={str(a): "counts"}, **QUIET)
    found = counts_of(cells.predict_dataloader(), 100, cells.vocabulary)
    np.testing.assert_array_equal(found, np.concatenate([one, two]))


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_layer_of_no_file_is_refused(tmp_path, write_cells, kind):
    path = tmp_path / "a.h5ad"
    write_cells(path, place="counts")
    cells = CellFiles([path], layer={kind(path): "counts"}, **QUIET)
    assert cells.report.files[0].counts == "layers/counts (csr)"
    with pytest.raises(ValueError, match=r"layer names '.*b.h5ad', which is none of the files"):
        CellFiles([path], layer={kind(tmp_path / "b.h5ad"): "counts"}, **QUIET)


def test_what_are_no_files_is_named(adata, cells):
    for wrong in (adata, [adata], adata.obs, cells, 3, [None]):
        what = type(wrong[0] if isinstance(wrong, list) else wrong).__name__
        with pytest.raises(TypeError, match=f"files must be paths or addresses .* got {what}"):
            CellFiles(wrong, **QUIET)


def test_addresses_are_read_as_files_are(tmp_path, write_cells):
    import fsspec

    counts = write_cells(tmp_path / "a.h5ad").uns["counts"]
    with fsspec.open("memory://atlas/a.h5ad", "wb") as file:
        file.write((tmp_path / "a.h5ad").read_bytes())
    cells = CellFiles("memory://atlas/a.h5ad", **QUIET)
    found = counts_of(cells.predict_dataloader(), 50, cells.vocabulary)
    np.testing.assert_array_equal(found, counts)


def test_cells_can_be_left_out_by_a_column(tmp_path, write_cells):
    inside = [i % 3 > 0 for i in range(60)]
    write_cells(tmp_path / "slide.h5ad", n_cells=60, obs={"in_tissue": np.array(inside, int)})
    write_cells(tmp_path / "other.h5ad", n_cells=30, seed=1)
    paths = [tmp_path / "slide.h5ad", tmp_path / "other.h5ad"]
    cells = CellFiles(paths, only={"in_tissue": 1}, **QUIET)
    assert sum(cells.split_sizes.values()) == 40 + 30
    assert "40 cells (20 left out)" in str(cells.report)
    assert cells.report.files[0].remarks == ("20 cells are left out by 'in_tissue'",)
    trained = {int(c) for batch in cells.train_dataloader() for c in batch.cells}
    assert not trained & {i for i in range(60) if i % 3 == 0}


def test_cells_without_counts_are_not_trained_on(tmp_path, write_cells, make_counts):
    counts = make_counts(60, 40)
    counts[::4] = 0
    # These have counts, but only of a gene that the vocabulary lacks.
    counts[1::4] = 0
    counts[1::4, 39] = 5
    write_cells(tmp_path / "a.h5ad", counts=counts)
    genes = [f"FAKE{i}" for i in range(39)]
    cells = CellFiles([tmp_path / "a.h5ad"], genes=genes, validation_size=0.2, **QUIET)
    assert sum(cells.split_sizes.values()) == 45
    assert "15 cells without counts are left out of training" in cells.report.files[0].remarks
    batches = [*cells.train_dataloader(), *cells.val_dataloader()]
    assert all((batch.lengths > 0).all() for batch in batches)
    everything = list(cells.predict_dataloader())
    assert sum(batch.n_cells for batch in everything) == 60
    assert sum(int((batch.lengths == 0).sum()) for batch in everything) == 30


@pytest.mark.parametrize("split_by", ["cell", "file", "donor"])
def test_splits_keep_together_what_they_should(atlas, split_by):
    paths, table = atlas
    cells = CellFiles(
        paths, split_by=split_by, batch_key="donor", validation_size=0.2, test_size=0.2, **QUIET
    )
    parts = {name: cells.cells_of(name) for name in ("train", "validation", "test")}
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(table)))
    assert all(len(part) for part in parts.values())
    files = {name: set(cells.locate(part)[0]) for name, part in parts.items()}
    donors = {name: set(np.asarray(cells.column("donor"))[part]) for name, part in parts.items()}
    together = {"file": files, "donor": donors}.get(split_by)
    if together is None:
        assert files["train"] == set(range(6))
    else:
        assert sum(map(len, together.values())) == len(set.union(*together.values()))


def test_weights_visit_files_equally(atlas):
    paths, _ = atlas
    equal = CellFiles(paths, weights="equal", validation_size=0, batch_size=32, **QUIET)
    cells = np.concatenate([batch.cells.numpy() for batch in equal.train_dataloader()])
    found = np.bincount(equal.locate(cells)[0])
    assert np.abs(found - len(cells) / 6).max() <= 8
    only = CellFiles(paths, weights=[0, 0, 1, 0, 0, 0], **QUIET)
    cells = np.concatenate([batch.cells.numpy() for batch in only.train_dataloader()])
    assert set(only.locate(cells)[0]) == {2}


def test_ranks_share_each_batch(cells, as_rank):
    one = CellFiles(cells.paths, batch_size=32, buffer_size=64, **QUIET)
    whole = [sorted(batch.cells.tolist()) for batch in one.train_dataloader()]
    two = CellFiles(cells.paths, batch_size=16, buffer_size=64, **QUIET)
    parts = []
    for rank in range(2):
        as_rank(rank, 2)
        assert len(two.train_dataloader()) == len(whole)
        parts.append([batch.cells.tolist() for batch in two.train_dataloader()])
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == whole


def test_the_registry_is_that_of_the_same_cells_in_memory(cells, atlas):
    paths, table = atlas
    obs = pd.DataFrame({"donor": cells.column("donor"), "kind": cells.column("kind")}, table.index)
    adata = anndata.AnnData(sp.csr_matrix(table[cells.vocabulary]), obs)
    adata.var_names = cells.vocabulary
    scenc.Model.setup_anndata(adata, batch_key="donor", labels_key="kind")
    model = scenc.Model(adata, d_model=8, n_heads=2, n_layers=1)
    expected = {k: v for k, v in model.registry_.items() if k != "_scvi_uuid"}
    expected["field_registries"] = dict(expected["field_registries"])
    np.testing.assert_equal(cells.registry, expected)


def test_the_registry_without_keys_is_valid_too(atlas, adata):
    cells = CellFiles(atlas[0], **QUIET)
    scenc.Model.setup_anndata(adata)
    expected = scenc.Model(adata, d_model=8, n_heads=2, n_layers=1).registry_
    for field in ("batch", "labels"):
        np.testing.assert_equal(
            cells.registry["field_registries"][field], expected["field_registries"][field]
        )


# Lightning uses what PyTorch has deprecated; batches come from threads, not worker processes; there
# may be a cluster's srun, which is for several processes.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:The `srun` command is available")
def test_a_network_trains_on_files(atlas):
    from lightning.pytorch import Trainer

    from scenc.nn import CellTransformer, ModelConfig
    from scenc.train import TrainConfig, fit
    from scenc.train._plan import MaskedExpressionPlan

    cells = CellFiles(
        atlas[0], batch_size=32, tokenizer=Tokenizer(context=20, mask_fraction=0.5), **QUIET
    )
    config = ModelConfig.from_dict({"d_model": 16, "n_heads": 2, "n_layers": 1, "context": 20})
    network = CellTransformer(config, cells.n_vars)
    settings = TrainConfig.from_dict({"max_epochs": 2, "lr": 1e-3})
    curve = fit(
        network,
        cells.train_dataloader(),
        cells.val_dataloader(),
        settings,
        seed=0,
        accelerator="cpu",
        progress_bar=False,
    )
    assert curve.n_steps == 2 * len(cells.train_dataloader())
    losses = list(curve.validation.values())
    assert losses[-1] < losses[0]
    network.train()
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(MaskedExpressionPlan(network, settings), datamodule=cells)
    assert trainer.global_step == len(cells.train_dataloader())


def damaged(path, key, value):
    with h5py.File(path, "r+") as file:
        file[key][5] = value


def test_everything_wrong_with_any_file_is_said_at_once(tmp_path, write_cells, make_counts):
    names = ["good", "absent", "text", "cut", "logged", "nan", "negative", "twice", "nameless"]
    names += ["column", "empty", "infinite", "width", "beyond"]
    paths = {name: tmp_path / f"{name}.h5ad" for name in names}
    for name, path in paths.items():
        write_cells(path, place="counts" if name == "logged" else "X")
    paths["absent"].unlink()
    paths["text"].write_text("<html>")
    paths["cut"].write_bytes(paths["good"].read_bytes()[:-2000])
    damaged(paths["nan"], "X/data", np.nan)
    damaged(paths["infinite"], "X/data", np.inf)
    damaged(paths["negative"], "X/data", -3)
    damaged(paths["beyond"], "X/indices", 4000)
    with warnings.catch_warnings():
        # anndata warns of such names, which are what is to be found.
        warnings.simplefilter("ignore")
        write_cells(paths["twice"], ["G1", "G1", *[f"FAKE{i}" for i in range(38)]])
        write_cells(paths["nameless"], ["", "", *[f"FAKE{i}" for i in range(38)]])
    adata = anndata.read_h5ad(paths["column"])
    del adata.obs["donor"]
    adata.write_h5ad(paths["column"])
    adata[:0].copy().write_h5ad(paths["empty"])
    with h5py.File(paths["width"], "r+") as file:
        file["X"].attrs["shape"] = [50, 41]

    with pytest.raises(CellFilesError) as raised:
        CellFiles(paths.values(), batch_key="donor", layer="X", **QUIET)
    report = raised.value.report
    problems = {name: f.problems for name, f in zip(paths, report.files, strict=True)}
    expected = {
        "good": None,
        "absent": "There is no file",
        "text": "is no .h5ad file",
        "cut": "is incomplete",
        "logged": "it looks log-normalised",
        "nan": "it holds a NaN or infinite value (nan) at cell '",
        "infinite": "it holds a NaN or infinite value (inf) at cell '",
        "negative": "it holds a negative value (-3.0) at cell '",
        "twice": "var_names names 1 genes more than once, for example G1.",
        "nameless": "var_names has 2 empty entries, the first at position 0.",
        "column": "obs has no column 'donor' (there: kind)",
        "empty": "it has no cells",
        "width": "X has 41 genes, var has 40",
        "beyond": "the matrix is damaged",
    }
    for name, said in expected.items():
        if said is None:
            assert problems[name] == ()
        else:
            assert any(said in problem for problem in problems[name]), (name, problems[name])
            assert f"{paths[name]}: " in str(raised.value)
    assert str(raised.value).startswith("13 of 14 files cannot be used:\n")
    assert "problem: var_names has 2 empty entries" in str(report)


def test_a_file_without_counts_says_what_it_holds(tmp_path, write_cells):
    write_cells(tmp_path / "a.h5ad", place="counts")
    with pytest.raises(CellFilesError, match=r"holds no counts: raw/X is not there; X holds frac"):
        CellFiles([tmp_path / "a.h5ad"], **QUIET)


def test_values_that_stand_twice_are_refused(tmp_path):
    matrix = sp.csr_matrix(
        (np.ones(4, np.float32), np.array([0, 0, 1, 2]), np.array([0, 3, 4])), (2, 3)
    )
    anndata.AnnData(matrix).write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(CellFilesError, match="1 values stand beside another of the same cell"):
        CellFiles([tmp_path / "a.h5ad"], **QUIET)


def test_fractions_among_counts_are_remarked(tmp_path, write_cells, make_counts):
    counts = make_counts(50, 40)
    counts[7, :3] = 30.5
    write_cells(tmp_path / "a.h5ad", counts=counts)
    cells = CellFiles([tmp_path / "a.h5ad"], layer="X", **QUIET)
    (remark,) = cells.report.files[0].remarks
    assert "3 values that are not integers (first: 30.5 at cell '7'" in remark


def test_a_sample_looks_at_some_and_so_do_further_processes(tmp_path, write_cells, monkeypatch):
    from scenc.data.files import _scan as _source

    monkeypatch.setattr(_source, "_N_BLOCKS", 2)
    write_cells(tmp_path / "a.h5ad", n_cells=5000)
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        file["X/data"][file["X/indptr"][2500]] = -1
    with pytest.raises(CellFilesError, match="negative"):
        CellFiles([tmp_path / "a.h5ad"], layer="X", **QUIET)
    CellFiles([tmp_path / "a.h5ad"], layer="X", check="sample", **QUIET)
    monkeypatch.setenv("LOCAL_RANK", "1")
    CellFiles([tmp_path / "a.h5ad"], layer="X", **QUIET)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"files": []}, "files is empty"),
        ({"check": "al"}, "check must be one of 'all', 'sample', got 'al'. Did you mean 'all'"),
        ({"genes": "unoin"}, "Did you mean 'union'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"chunk_size": -1}, "chunk_size must be at least 1"),
        ({"validation_size": 1.5}, r"validation_size must lie in \[0, 1\)"),
        ({"validation_size": 0.5, "test_size": 0.5}, "leave no cell to train on"),
        ({"weights": [1, 2]}, "weights must be 6 numbers of 0 or more, one per file"),
        ({"weights": [0] * 6}, "weights leave no cell to train on"),
        ({"weights": [np.nan] * 6}, "weights must be 6 numbers"),
        ({"weights": "same"}, "weights must be one of 'equal', 'sqrt'"),
        ({"split_by": "cohort"}, "obs has no column 'cohort'"),
        ({"batch_key": "donors"}, "obs has no column 'donors'"),
    ],
)
def test_arguments_are_checked(atlas, settings, said):
    with pytest.raises(ValueError, match=said):
        CellFiles(**{"files": atlas[0], **QUIET, **settings})


def test_files_that_share_no_gene_have_no_intersection(tmp_path, write_cells):
    write_cells(tmp_path / "a.h5ad", [f"A{i}" for i in range(9)])
    write_cells(tmp_path / "b.h5ad", [f"B{i}" for i in range(9)])
    paths = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    with pytest.raises(ValueError, match="No gene is in all files"):
        CellFiles(paths, genes="intersection", **QUIET)
    with pytest.raises(ValueError, match="is named more than once in files"):
        CellFiles([paths[0], paths[0]], **QUIET)


def test_columns_are_those_that_were_named(cells):
    with pytest.raises(ValueError, match="Did you mean 'kind'"):
        cells.column("kinds")
    with pytest.raises(ValueError, match="split must be one of"):
        cells.cells_of("val")


@pytest.mark.parametrize("source", ["shipped", pytest.param("shared", marks=pytest.mark.shared)])
def test_real_files_with_different_genes_are_read_together(source, request):
    if source == "shipped":
        paths = request.getfixturevalue("shipped_files")
    else:
        kang, baron = "kang18_ctrl_stim_2000cells_9015genes", "baron16_human_pancreas_175cells"
        folder = request.getfixturevalue("shared_data")
        paths = [folder / f"{name}.h5ad" for name in ("pbmc3k", kang, baron)]
    cells = CellFiles(
        paths,
        labels_key="cell_type",
        split_by="file",
        genes="intersection",
        batch_size=128,
        **QUIET,
    )
    data = [anndata.read_h5ad(path) for path in paths]
    assert cells.n_obs == sum(adata.n_obs for adata in data)
    exact = set.intersection(*(set(adata.var_names) for adata in data))
    # Outdated symbols find each other as well.
    assert exact <= set(cells.vocabulary)
    sizes = cells.counts(np.arange(cells.n_obs)).sum(axis=1)
    common = sorted(exact)
    expected = np.concatenate([np.asarray(a[:, common].X.sum(axis=1)).ravel() for a in data])
    assert (sizes >= expected).all()
    assert np.corrcoef(sizes, expected)[0, 1] > 0.99


def test_genes_may_count_in_the_library_size_alone(atlas):
    paths, table = atlas
    genes, others = table.columns[:20].tolist(), table.columns[20:50].tolist()
    cells = CellFiles(paths, genes=genes, batch_size=16, buffer_size=64, **QUIET)
    cells.use_vocabulary(genes, others)
    known = table[genes + others].to_numpy()
    expected = np.log1p(known[:, :20] / known.sum(axis=1, keepdims=True) * 1e4)
    for batch in cells.predict_dataloader():
        values = np.zeros((batch.n_cells, 20))
        for cell, length in enumerate(batch.lengths.tolist()):
            values[cell, batch.genes[cell, :length]] = batch.values()[cell, :length]
        np.testing.assert_allclose(values, expected[batch.cells.numpy()], rtol=1e-5)
    counts = cells.counts(np.arange(5, 200, 3)).toarray()
    np.testing.assert_array_equal(counts[:, :20], table[genes].iloc[5:200:3])
    np.testing.assert_allclose(counts[:, 20], table[others].iloc[5:200:3].sum(axis=1))


def test_files_are_printed_in_words(cells):
    n = cells.split_sizes
    text = str(cells)
    assert text == repr(cells)
    assert text.startswith(f"CellFiles of {cells.n_obs} cells x 60 genes in 6 files")
    assert f"{n['train']} for train" in text
