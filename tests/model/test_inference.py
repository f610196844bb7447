from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenc.data import Request, TokenDataset, Tokenizer, open_rows
from scenc.model import _inference

SAME = {"rtol": 0, "atol": 1e-5}
FORMATS = {
    "csr_array": sp.csr_array,
    "csc_matrix": sp.csc_matrix,
    "csc_array": sp.csc_array,
    "dense": lambda m: m.toarray(),
    "float64": lambda m: m.astype(np.float64),
    "int64": lambda m: m.astype(np.int64),
}
explore = settings(max_examples=15)


@pytest.fixture(scope="module")
def embedding(trained):
    return trained.get_latent_representation(key_added=None)


@pytest.fixture
def query(trained):
    """A copy of the model's data, unknown to the model."""
    return anndata.AnnData(trained.adata.X.copy(), trained.adata.obs, trained.adata.var)


@pytest.fixture(params=["csr", "dense"])
def backed(request, query, tmp_path):
    if request.param == "dense":
        query.X = query.X.toarray()
    query.write_h5ad(tmp_path / "query.h5ad")
    on_disk = anndata.read_h5ad(tmp_path / "query.h5ad", backed="r")
    yield on_disk
    on_disk.file.close()


def embed(model, adata=None, **options):
    return model.get_latent_representation(adata, key_added=None, **options)


def test_a_row_is_the_mean_of_its_cells_tokens(trained, embedding):
    assert embedding.shape == (120, 16)
    assert embedding.dtype == np.float32
    rows = open_rows(trained.adata.X)
    tokenizer = Tokenizer(context=trained.config.context)
    dataset = TokenDataset(rows, np.arange(60), tokenizer)
    for cell in (0, 7, 119):
        batch = dataset[Request(np.array([cell]), seed=trained.config.seed)]
        with torch.no_grad():
            tokens = trained.module.transformer(trained.module.embed_tokens(batch))
            expected = tokens[0].mean(dim=0)
        np.testing.assert_allclose(embedding[cell], expected, **SAME)


def test_cells_are_both_truncated_and_not(trained):
    lengths = (trained.adata.X > 0).sum(axis=1).A1
    assert lengths.min() < trained.config.context < lengths.max()


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
def test_the_batch_size_changes_nothing(trained, embedding, batch_size):
    np.testing.assert_allclose(embed(trained, batch_size=batch_size), embedding, **SAME)


@explore
@given(order=st.permutations(range(120)))
def test_the_order_of_cells_changes_nothing(trained, query, embedding, order):
    np.testing.assert_allclose(embed(trained, query[order].copy()), embedding[order], **SAME)


@explore
@given(order=st.permutations(range(60)))
def test_the_order_of_genes_changes_nothing(trained, query, embedding, order):
    np.testing.assert_allclose(embed(trained, query[:, order].copy()), embedding, **SAME)


@explore
@given(indices=st.lists(st.integers(-120, 119), max_size=8))
def test_a_subset_gives_its_rows(trained, embedding, indices):
    part = embed(trained, indices=indices, batch_size=3)
    assert part.shape == (len(indices), 16)
    np.testing.assert_allclose(part, embedding[np.array(indices, int)], **SAME)


INDICES = {
    "list": [50, 2, 9],
    "negative": [-1, 0, -120],
    "repeated": np.array([4, 4, 119, 4]),
    "mask": np.arange(120) % 7 == 3,
    "series": pd.Series(np.arange(120) < 5).to_numpy(),
    "all": None,
}


@pytest.mark.parametrize("indices", INDICES.values(), ids=INDICES)
def test_backed_files_give_the_same_rows(trained, backed, embedding, indices):
    assert backed.isbacked
    expected = embedding if indices is None else embedding[indices]
    np.testing.assert_allclose(embed(trained, backed, indices=indices), expected, **SAME)
    np.testing.assert_allclose(embed(trained, indices=indices, batch_size=2), expected, **SAME)


@pytest.mark.parametrize(
    "indices",
    [[120], [-121], [0.5], [[1, 2]], np.ones(119, bool), 3],
    ids=["above", "below", "fraction", "nested", "short mask", "scalar"],
)
def test_rows_that_are_not_there_are_refused(trained, indices):
    with pytest.raises(IndexError, match="indices|mask"):
        embed(trained, indices=indices)


@pytest.mark.parametrize("convert", FORMATS.values(), ids=FORMATS)
def test_the_kind_of_matrix_changes_nothing(trained, query, embedding, convert):
    query.X = convert(query.X)
    np.testing.assert_allclose(embed(trained, query), embedding, **SAME)


@pytest.mark.parametrize(
    "ask",
    [
        embed,
        lambda model: model.get_reconstruction_error(),
        lambda model: model.predict_expression(genes="FAKE3"),
    ],
    ids=["embedding", "error", "prediction"],
)
def test_cudnn_attention_is_off_meanwhile(trained, monkeypatch, ask):
    attend, seen = torch.nn.functional.scaled_dot_product_attention, set()

    def note(*args, **options):
        seen.add(torch.backends.cuda.cudnn_sdp_enabled())
        return attend(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", note)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    ask(trained)
    assert seen == {False}
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


def test_inference_is_repeatable_and_leaves_no_traces(trained, embedding):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    trained.module.train()
    np.testing.assert_array_equal(embed(trained), embedding)
    assert not trained.module.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_another_process_gives_the_same(trained, query, embedding, tmp_path, processes):
    trained.save(tmp_path / "model")
    query.write_h5ad(tmp_path / "query.h5ad")
    code = (
        "import anndata, numpy as np; from scenc import Model\n"
        "z = Model.load(f'{folder}/model').get_latent_representation("
        "anndata.read_h5ad(f'{folder}/query.h5ad'), batch_size=13); np.save(f'{folder}/z.npy', z)"
    )
    process = processes.Process(target=exec, args=(code, {"folder": str(tmp_path)}))
    process.start()
    process.join()
    assert process.exitcode == 0
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), embedding, **SAME)


@pytest.mark.filterwarnings("ignore:.* lacks .* genes that count for the library size")
def test_missing_genes_are_genes_not_seen(trained, query):
    kept = np.arange(60) % 4 > 0
    silent = query.copy()
    silent.X = sp.csr_matrix(silent.X.toarray() * kept)
    np.testing.assert_allclose(
        embed(trained, query[:, kept].copy()), embed(trained, silent), **SAME
    )


def test_extra_genes_are_left_out(trained, query, embedding, make_counts):
    extra = anndata.AnnData(sp.csr_matrix(make_counts(120, 40, seed=5)), query.obs)
    extra.var_names = [f"OTHER{i}" for i in range(40)]
    both = anndata.concat([extra, query], axis=1, merge="first")
    np.testing.assert_allclose(embed(trained, both), embedding, **SAME)


def rename(adata, n_kept):
    """Keep the names of some genes and make up the rest."""
    names = [f"OTHER{i}" for i in range(60)]
    names[:n_kept] = adata.var_names[:n_kept]
    adata.var_names = names
    return adata


def test_data_that_share_no_genes_are_refused(trained, query):
    with pytest.raises(ValueError, match=r"(?s)Too few genes.* 0 of .*'OTHER0'.*'FAKE0'"):
        embed(trained, rename(query, 0))


@pytest.mark.filterwarnings("ignore:.* lacks .* genes that count for the library size")
@pytest.mark.parametrize("n_kept", [5, 20])
def test_low_coverage_is_refused_or_warned_about(trained, query, n_kept):
    rename(query, n_kept)
    if n_kept < 6:
        with pytest.raises(ValueError, match="Too few genes"):
            embed(trained, query)
    else:
        with pytest.warns(UserWarning, match="Few genes are shared"):
            assert np.isfinite(embed(trained, query)).all()


def test_coverage_is_reported(trained, query):
    assert trained.gene_coverage().n_matched == 60
    report = trained.gene_coverage(rename(query, 20))
    assert report.n_matched == 20
    assert report.coverage == pytest.approx(1 / 3)


def test_the_embedding_is_written(trained, query, embedding):
    trained.get_latent_representation(query)
    np.testing.assert_array_equal(query.obsm["X_scenc"], embedding)
    trained.get_latent_representation(query, key_added="other")
    np.testing.assert_array_equal(query.obsm["other"], embedding)
    assert query.uns["other_genes"]["n_matched"] == 60


def test_what_was_written_can_be_saved(trained, query, embedding, tmp_path):
    trained.get_latent_representation(query)
    query.write_h5ad(tmp_path / "embedded.h5ad")
    again = anndata.read_h5ad(tmp_path / "embedded.h5ad")
    np.testing.assert_array_equal(again.obsm["X_scenc"], embedding)


@pytest.mark.parametrize("options", [{"key_added": None}, {"indices": [1, 2]}])
def test_the_embedding_is_not_written_unasked_or_in_part(trained, query, options):
    trained.get_latent_representation(query, **options)
    assert not query.obsm


def test_a_view_is_embedded_but_not_written_to(trained, query, embedding):
    view = query[20:40]
    with pytest.warns(UserWarning, match=r"view.*not written.*adata\.copy"):
        part = trained.get_latent_representation(view)
    np.testing.assert_allclose(part, embedding[20:40], **SAME)
    assert view.is_view
    assert not view.obsm
    assert not query.obsm


def test_empty_cells_are_zeros_with_a_warning(trained, query, embedding):
    counts = query.X.toarray()
    counts[[8, 30]] = 0
    query.X = sp.csr_matrix(counts)
    with pytest.warns(UserWarning, match=r"2 cells have no counts.*first: 'cell8'"):
        result = embed(trained, query, batch_size=10)
    assert not result[[8, 30]].any()
    others = np.setdiff1d(np.arange(120), [8, 30])
    np.testing.assert_allclose(result[others], embedding[others], **SAME)


def test_a_single_cell_is_embedded(trained, query, embedding):
    np.testing.assert_allclose(embed(trained, query[7].copy()), embedding[[7]], **SAME)


def test_more_or_all_or_the_highest_genes_may_be_kept(trained, query):
    every = embed(trained, query, max_genes=None)
    np.testing.assert_allclose(embed(trained, query, max_genes=60), every, **SAME)
    counts = query.X.toarray()
    top = np.zeros_like(counts)
    # Distinct counts: which genes are the highest is not left to a draw.
    counts += np.random.default_rng(0).permuted(np.tile(np.arange(60), (120, 1)), axis=1)
    cells, best = np.arange(120)[:, None], np.argsort(-counts, axis=1, kind="stable")[:, :10]
    top[cells, best] = 1
    ranked = query.copy()
    ranked.X = sp.csr_matrix(counts)
    batch = Tokenizer(context=10, draw="top")(ranked.X, np.arange(120), np.arange(60))
    lowest = np.sort(counts, axis=1)[:, -10]
    drawn = counts[cells, batch.genes.numpy()]
    assert (drawn >= lowest[:, None]).all()
    highest = embed(trained, ranked, max_genes=10, draw="top")
    assert not np.allclose(highest, embed(trained, ranked, max_genes=10), atol=1e-3)


@pytest.mark.parametrize(
    "ask",
    [
        lambda m: m.get_latent_representation(),
        lambda m: m.get_reconstruction_error(),
        lambda m: m.predict_expression(genes=["FAKE1"]),
        lambda m: m.get_gene_embeddings(),
    ],
    ids=["embedding", "error", "prediction", "genes"],
)
def test_an_untrained_model_answers_nothing(adata, make_model, ask):
    model = make_model(adata)
    with pytest.raises(RuntimeError, match=r"not trained: call model\.train\(\)"):
        ask(model)
    model.is_trained = True
    ask(model)


def expected_error(model, cell, mask_fraction, seed):
    """Eq. 10 for one cell, from the network's own predictions."""
    tokenizer = Tokenizer(context=model.config.context, mask_fraction=mask_fraction)
    dataset = TokenDataset(open_rows(model.adata.X), np.arange(60), tokenizer)
    batch = dataset[Request(np.array([cell]), seed)]
    n = int(batch.n_masked)
    with torch.no_grad():
        predicted = model.module.reconstruct(batch)[0, :n].numpy()
    genes = batch.genes[0, :n].numpy()
    counts = model.adata.X[cell].toarray()[0]
    target = np.log(1 + counts[genes] / counts.sum() * model.config.target_sum)
    return ((predicted - target) ** 2).mean()


@pytest.mark.parametrize(("mask_fraction", "seed"), [(0.5, 0), (0.2, 4), (1.0, 1)])
def test_reconstruction_error_is_the_mean_over_masked_genes(trained, mask_fraction, seed):
    cells = [3, 110, 0]
    errors = trained.get_reconstruction_error(
        indices=cells, mask_fraction=mask_fraction, seed=seed, batch_size=2
    )
    expected = [expected_error(trained, cell, mask_fraction, seed) for cell in cells]
    np.testing.assert_allclose(errors, expected, rtol=1e-4)


def test_reconstruction_error_of_an_empty_cell_is_nan(trained, query):
    query.X = sp.csr_matrix(query.X.toarray() * (np.arange(120) != 5)[:, None])
    errors = trained.get_reconstruction_error(query)
    assert np.flatnonzero(np.isnan(errors)).tolist() == [5]


@pytest.mark.parametrize("mask_fraction", [0, 1.01, -1])
def test_reconstruction_error_needs_something_masked(trained, mask_fraction):
    with pytest.raises(ValueError, match="mask_fraction"):
        trained.get_reconstruction_error(mask_fraction=mask_fraction)


def test_predictions_are_named_and_in_order(trained, query):
    genes = ["FAKE9", "FAKE3", "FAKE40"]
    predicted = trained.predict_expression(query, genes, indices=[5, 2])
    assert predicted.index.tolist() == ["cell5", "cell2"]
    assert predicted.columns.tolist() == genes
    shuffled = trained.predict_expression(query, genes[::-1])
    np.testing.assert_allclose(shuffled.loc[["cell5", "cell2"], genes], predicted, **SAME)
    one = trained.predict_expression(query, "FAKE9")
    assert one.columns.tolist() == ["FAKE9"]


def test_a_prediction_equals_that_of_a_cell_without_the_genes(trained, query):
    genes = ["FAKE9", "FAKE3"]
    silent = query.copy()
    # Few enough genes that none are drawn; depth is kept by an unknown gene, which changes nothing.
    columns = np.arange(60) < 15
    silent.X = sp.csr_matrix(query.X.toarray() * columns)
    predicted = trained.predict_expression(silent, genes)
    dataset = TokenDataset(open_rows(silent.X), np.arange(60), Tokenizer())
    batch = dataset[Request(np.arange(120), seed=0)]
    with torch.no_grad():
        hidden = torch.tensor([9, 3])
        naive = torch.cat(
            [trained.module.predict(batch, gene[None], hidden) for gene in hidden], dim=1
        )
    np.testing.assert_allclose(predicted, naive, **SAME)


def test_predictions_do_not_depend_on_passes_or_batches(trained, query, monkeypatch):
    genes = query.var_names[:30].tolist()
    whole = trained.predict_expression(query, genes)
    monkeypatch.setattr(_inference, "_GENES_PER_PASS", 7)
    np.testing.assert_allclose(trained.predict_expression(query, genes), whole, **SAME)
    np.testing.assert_allclose(
        trained.predict_expression(query, genes, batch_size=11), whole, **SAME
    )


def test_predictions_do_not_see_what_they_predict(trained, query):
    # In truncated cells the draw may differ between the two.
    counts = query.X.toarray() * (np.arange(60) < 15)
    query.X = sp.csr_matrix(counts)
    before = trained.predict_expression(query, ["FAKE2"])
    depth = counts[:, 2].copy()
    counts[:, 2], counts[:, 20] = 0, depth
    query.X = sp.csr_matrix(counts)
    # The counts of the named gene now stand in another hidden one: same depth, same context.
    after = trained.predict_expression(query, ["FAKE2", "FAKE20"])
    both = trained.predict_expression(query, ["FAKE20", "FAKE2"])
    np.testing.assert_allclose(after["FAKE2"], before["FAKE2"], **SAME)
    np.testing.assert_allclose(after["FAKE2"], both["FAKE2"], **SAME)


@pytest.mark.parametrize(
    ("genes", "message"),
    [([], "at least one gene"), (["FAKE1", "CD3X"], r"1 of 2 genes .*: CD3X")],
)
def test_genes_to_predict_must_be_known(trained, genes, message):
    with pytest.raises(ValueError, match=message):
        trained.predict_expression(genes=genes)


@pytest.mark.parametrize("gene_encoder", ["learned", "protein"])
def test_gene_embeddings_are_the_encoders_table(adata, make_model, train, gene_encoder):
    model = train(make_model(adata, gene_encoder=gene_encoder), max_epochs=1)
    table = model.get_gene_embeddings()
    assert table.index.tolist() == adata.var_names.tolist()
    with torch.no_grad():
        expected = model.module.train().gene_encoder(torch.arange(60)).numpy()
    np.testing.assert_allclose(table, expected, **SAME)
    table.iloc[0] = 0
    assert model.get_gene_embeddings().iloc[0].any()
