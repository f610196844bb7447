from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from torch._subclasses.fake_tensor import FakeTensorMode

from scenc.data import COUNTED, UNKNOWN, Tokenizer
from scenc.data.tokens._csr import GeneRows

# Integers below and above the size of the table of distinct counts, and fractions.
COUNT_VALUES = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 5, 40, 1023, 1024, 70_000, 0.5, 2.5])
COUNT_MATRICES = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=COUNT_VALUES
)
quick = settings(max_examples=40)


def tokenize(counts, seed=0, rows=None, gene_map=None, **options):
    counts = counts if sp.issparse(counts) else sp.csr_matrix(np.asarray(counts, np.float32))
    rows = np.arange(counts.shape[0]) if rows is None else np.asarray(rows)
    gene_map = np.arange(counts.shape[1]) if gene_map is None else np.asarray(gene_map)
    return Tokenizer(**options)(counts, rows, gene_map, seed)


def tokens_of(batch):
    """Return each cell's tokens: {gene: (count, x~, bin)}; a gene twice is an error."""
    cells = []
    for cell, length in enumerate(batch.lengths.tolist()):
        at = batch.value_index[cell, :length]
        bins = batch.quantile_bins[at].tolist() if batch.quantile_bins is not None else [0] * length
        genes = batch.genes[cell, :length].tolist()
        assert len(set(genes)) == length
        values = zip(batch.counts[at].tolist(), batch.normalized[at].tolist(), bins, strict=True)
        cells.append(dict(zip(genes, values, strict=True)))
    return cells


def masked_genes(batch):
    return [
        set(genes[:n].tolist())
        for genes, n in zip(batch.genes, batch.n_masked.tolist(), strict=True)
    ]


def normalised(row, gene_map, target_sum):
    """One cell by the letter of eq. 1 and 2: {gene: (count, x~)}."""
    depth = sum(float(x) for gene, x in zip(gene_map, row, strict=True) if gene != UNKNOWN)
    return {
        int(gene): (float(x), np.log(1 + float(x) / depth * target_sum))
        for gene, x in zip(gene_map, row, strict=True)
        if x != 0 and gene >= 0
    }


def expected_tokens(row, gene_map, target_sum, n_bins):
    """One cell by the letter of eq. 1, 2 and 14."""
    cell = normalised(row, gene_map, target_sum)
    counts = [x for x, _ in cell.values()]
    edges = np.quantile(counts, np.arange(1, n_bins) / n_bins) if cell else []
    return {
        gene: (x, pytest.approx(value, rel=1e-6), 1 + int(np.digitize(x, edges, right=True)))
        for gene, (x, value) in cell.items()
    }


@quick
@given(counts=COUNT_MATRICES, target_sum=st.sampled_from([1.0, 1e4, 1e6]), data=st.data())
def test_tokens_equal_a_naive_loop_over_cells(counts, target_sum, data):
    n_genes = counts.shape[1]
    columns = [*range(n_genes), UNKNOWN, UNKNOWN, COUNTED, COUNTED]
    gene_map = np.array(data.draw(st.permutations(columns))[:n_genes])
    n_bins = data.draw(st.integers(2, 12))

    batch = tokenize(
        counts, gene_map=gene_map, target_sum=target_sum, quantile_bins=n_bins, totals=True
    )

    expected = [expected_tokens(row, gene_map, target_sum, n_bins) for row in counts]
    assert tokens_of(batch) == expected
    cells = [normalised(row, gene_map, target_sum) for row in counts]
    totals = [sum(value for _, value in cell.values()) for cell in cells]
    np.testing.assert_allclose(batch.totals, totals, rtol=1e-5)
    assert batch.lengths.tolist() == [len(cell) for cell in expected]
    assert batch.length_buckets[0].is_padded == bool((batch.lengths < batch.n_tokens).any())


def test_quantile_bins_of_a_deep_cell_with_ties_equal_numpy():
    rng = np.random.default_rng(3)
    counts = 1 + rng.negative_binomial(0.4, 0.02, (4, 1301)).astype(np.float32)
    batch = tokenize(counts, quantile_bins=50)
    for row, tokens in zip(counts, tokens_of(batch), strict=True):
        edges = np.quantile(row.astype(float), np.arange(1, 50) / 50)
        expected = 1 + np.digitize(row, edges, right=True)
        assert [tokens[gene][2] for gene in range(1301)] == expected.tolist()
        assert expected.min() >= 1
        assert expected.max() == 50


def test_quantile_bins_and_depth_see_the_whole_cell_even_if_genes_are_drawn():
    counts = np.arange(1, 41, dtype=np.float32)[None]
    whole = tokens_of(tokenize(counts, quantile_bins=8))[0]
    drawn = tokens_of(tokenize(counts, context=10, quantile_bins=8))[0]
    assert len(drawn) == 10
    assert drawn == {gene: whole[gene] for gene in drawn}


def test_tokens_are_numbered_with_32_bits_cut_or_not():
    counts = np.array([[1, 2, 0, 0], [3, 0, 0, 0]], np.float32)
    for batch in (tokenize(counts), tokenize(counts, gene_map=np.array([0, UNKNOWN, 1, 2]))):
        assert (batch.genes.dtype, batch.value_index.dtype) == (torch.int32, torch.int32)


def test_the_sum_of_x_tells_of_genes_that_were_not_drawn():
    counts = np.arange(1, 41, dtype=np.float32)[None]
    whole = tokenize(counts, totals=True)
    drawn = tokenize(counts, context=10, mask_fraction=0.5, totals=True)
    torch.testing.assert_close(whole.totals, whole.values().sum(dim=1))
    torch.testing.assert_close(drawn.totals, whole.totals)
    assert tokenize(counts).totals is None


@pytest.mark.parametrize(
    ("columns", "values"), [(np.int32, np.float32), (np.int64, np.uint16)], ids=["same", "other"]
)
def test_tokens_do_not_depend_on_the_types_of_rows(columns, values):
    rng = np.random.default_rng(5)
    counts = sp.csr_matrix(rng.poisson(1.0, (6, 300)).astype(np.float32))
    settings = {"context": 90, "mask_fraction": 0.5, "totals": True}
    mapped = tokenize(counts, seed=4, **settings)
    stored = GeneRows(
        counts.indptr, counts.indices.astype(columns), counts.data.astype(values), None
    )
    batch = Tokenizer(**settings).tokens(stored, np.arange(6), seed=4)
    for name in ("genes", "value_index", "normalized", "counts", "n_masked", "totals"):
        assert torch.equal(getattr(batch, name), getattr(mapped, name))


def test_rows_over_the_vocabulary_bring_their_library_sizes():
    counts = np.arange(1, 41, dtype=np.float32).reshape(2, 20)
    whole = tokenize(counts, gene_map=np.r_[np.arange(5), [COUNTED] * 15])
    cut = sp.csr_matrix(counts[:, :5])
    rows = GeneRows(cut.indptr, cut.indices, cut.data, counts.sum(axis=1, dtype=float))
    told = Tokenizer().tokens(rows, np.array([1, 0]))
    assert tokens_of(told) == tokens_of(whole)[::-1]


def test_rows_of_all_genes_that_count_need_no_library_sizes():
    counts = np.arange(1, 41, dtype=np.float32).reshape(2, 20)
    rows = GeneRows(
        *(getattr(sp.csr_matrix(counts), k) for k in ("indptr", "indices", "data")), None
    )
    told = Tokenizer().tokens(rows, np.array([0, 1]))
    assert tokens_of(told) == tokens_of(tokenize(counts))


def test_batches_are_as_wide_as_their_longest_cell_if_columns_are_unknown():
    counts = np.ones((2, 9), np.float32)
    counts[1, 2:] = 0
    batch = tokenize(counts, gene_map=[UNKNOWN, *range(4), *[UNKNOWN] * 4], context=6)
    assert batch.genes.tolist() == [[0, 1, 2, 3], [0, 0, 0, 0]]
    assert batch.lengths.tolist() == [4, 1]
    assert batch.value_index.is_contiguous()


def test_many_distinct_counts_find_room():
    counts = np.arange(1, 901, dtype=np.float32) + 300 * np.arange(6)[:, None]
    batch = tokenize(counts, quantile_bins=4, mask_fraction=0.5)
    assert len(batch.counts) == 6 * 900
    for row, tokens in zip(counts, tokens_of(batch), strict=True):
        assert [tokens[gene][0] for gene in range(900)] == row.tolist()


@pytest.mark.parametrize("column", [-1, 3, 2**31 - 1])
def test_columns_that_do_not_exist_are_refused(column):
    counts = sp.csr_matrix(np.eye(3, dtype=np.float32))
    counts.indices[1] = column
    assert tokenize(counts, rows=[0, 2]).genes.tolist() == [[0], [2]]
    with pytest.raises(ValueError, match="columns beyond the 3 that there are"):
        tokenize(counts)


@pytest.mark.parametrize("odd", [-1.0, -0.5, -1e30, np.nan, np.inf, 1e30])
def test_what_is_no_count_becomes_a_value_of_its_own(odd):
    counts = np.array([[1, odd, 1, 2]], np.float32)
    batch = tokenize(counts, mask_fraction=0.5, context=4, quantile_bins=3)
    values = dict(zip(batch.genes[0].tolist(), batch.value_index[0].tolist(), strict=True))
    np.testing.assert_array_equal(batch.counts[[values[gene] for gene in range(4)]], counts[0])
    assert values[0] == values[2]


def as_unsorted(matrix):
    """Return the same CSR matrix with each row's entries in reverse."""
    reverse = sp.csr_matrix(matrix[:, ::-1])
    reverse.indices = (matrix.shape[1] - 1 - reverse.indices).astype(reverse.indices.dtype)
    reverse.has_sorted_indices = False
    return reverse


def with_stored_zeros(matrix):
    """Return CSR that stores every entry, zeros too."""
    n_cells, n_genes = matrix.shape
    indices = np.tile(np.arange(n_genes, dtype=np.int32), n_cells)
    indptr = np.arange(0, n_cells * n_genes + 1, n_genes, dtype=np.int32)
    return sp.csr_matrix((matrix.ravel(), indices, indptr), matrix.shape)


def with_long_indices(matrix):
    out = sp.csr_matrix(matrix)
    out.indptr, out.indices = out.indptr.astype(np.int64), out.indices.astype(np.int64)
    return out


def read_only(matrix):
    out = sp.csr_matrix(matrix)
    for array in (out.data, out.indices, out.indptr):
        array.flags.writeable = False
    return out


@pytest.mark.parametrize(
    "convert",
    [
        sp.csr_array,
        as_unsorted,
        with_stored_zeros,
        with_long_indices,
        read_only,
        lambda m: sp.csr_matrix(m.astype(np.float64)),
        lambda m: sp.csr_matrix(m.astype(np.int64)),
        lambda m: sp.csr_matrix(m.astype(np.uint16)),
    ],
    ids=["csr_array", "unsorted", "zeros", "int64 indices", "read-only", "f8", "i8", "u2"],
)
def test_tokens_do_not_depend_on_how_a_matrix_is_stored(make_counts, convert):
    counts = make_counts(20, 40)
    options = {"context": 12, "mask_fraction": 0.5, "quantile_bins": 5, "seed": 4}
    plain, other = tokenize(counts, **options), tokenize(convert(counts), **options)
    assert tokens_of(other) == tokens_of(plain)
    assert masked_genes(other) == masked_genes(plain)


@quick
@given(seed=st.integers(0, 2**63), order=st.permutations(range(15)), columns=st.randoms())
def test_draws_and_masks_do_not_depend_on_neighbours_or_on_the_order_of_genes(seed, order, columns):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(1.0, (15, 40)).astype(np.float32)
    shuffled = list(range(40))
    columns.shuffle(shuffled)
    options = {"context": 9, "mask_fraction": 0.4, "seed": seed}

    whole = tokenize(counts, **options)
    moved = tokenize(counts[:, shuffled], rows=order, gene_map=shuffled, **options)
    alone = tokenize(counts[[order[0]]], **options)

    tokens, masks = tokens_of(whole), masked_genes(whole)
    assert tokens_of(moved) == [tokens[i] for i in order]
    assert masked_genes(moved) == [masks[i] for i in order]
    assert tokens_of(alone) == [tokens[order[0]]]


def test_a_draw_takes_context_genes_of_the_cell_without_replacement(make_counts):
    counts = make_counts(50, 60)
    whole, drawn = tokens_of(tokenize(counts)), tokens_of(tokenize(counts, context=20))
    assert max(map(len, whole)) > 20 > min(map(len, whole))
    for full, part in zip(whole, drawn, strict=True):
        assert len(part) == min(20, len(full))
        assert part.items() <= full.items()


def test_another_seed_gives_another_draw_and_another_mask(make_counts):
    counts = make_counts(30, 60)
    first, again, other = (
        tokenize(counts, context=20, mask_fraction=0.5, seed=seed) for seed in (1, 1, 2)
    )
    assert tokens_of(first) == tokens_of(again)
    assert masked_genes(first) == masked_genes(again)
    different = [a != b for a, b in zip(tokens_of(first), tokens_of(other), strict=True)]
    lengths = np.array([len(cell) for cell in tokens_of(tokenize(counts))])
    assert np.array_equal(different, lengths > 20)
    assert masked_genes(first) != masked_genes(other)


def chi_square_of_draws(times_drawn, n_draws, n_taken):
    """Return the p-value of equal chances, for draws of `n_taken` without replacement."""
    n_genes = len(times_drawn)
    expected = n_draws * n_taken / n_genes
    # Counts of one draw are negatively correlated: the statistic is scaled to its exact mean.
    shrink = (n_genes - 1) / (n_genes - n_taken)
    statistic = ((times_drawn - expected) ** 2 / expected).sum() * shrink
    return stats.chi2.sf(statistic, n_genes - 1)


@pytest.mark.parametrize("what", ["draw by seed", "draw by cell", "mask"])
def test_draws_and_masks_are_uniform(what):
    n_genes, n_taken, n_draws = 31, 10, 4000
    rng = np.random.default_rng(0)
    if what == "draw by cell":
        cells = 1 + rng.poisson(5, (n_draws, n_genes)).astype(np.float32)
        batch = tokenize(cells, context=n_taken)
        drawn = batch.genes.numpy()
    else:
        cell = sp.csr_matrix(1 + rng.poisson(5, (1, n_genes)).astype(np.float32))
        options = {"mask_fraction": n_taken / n_genes} if what == "mask" else {"context": n_taken}
        batches = [tokenize(cell, seed=seed, **options) for seed in range(n_draws)]
        drawn = np.concatenate([batch.genes[:, :n_taken].numpy() for batch in batches])
    times = np.bincount(drawn.ravel(), minlength=n_genes)
    assert drawn.shape == (n_draws, n_taken)
    assert chi_square_of_draws(times, n_draws, n_taken) > 1e-3
    # Pairs too: genes are not drawn in fixed company.
    chosen = np.zeros((n_draws, n_genes))
    np.put_along_axis(chosen, drawn, 1, axis=1)
    together = (chosen.T @ chosen)[np.triu_indices(n_genes, 1)]
    chance = n_taken * (n_taken - 1) / (n_genes * (n_genes - 1))
    z = (together - n_draws * chance) / np.sqrt(n_draws * chance * (1 - chance))
    assert np.abs(z).max() < 4.5


def test_the_mask_is_independent_of_the_draw():
    cell = sp.csr_matrix(np.ones((1, 40), np.float32))
    kept, hidden = np.zeros(40), np.zeros(40)
    for seed in range(3000):
        genes = tokenize(cell, seed=seed, context=20, mask_fraction=0.5).genes[0].numpy()
        kept[genes] += 1
        hidden[genes[:10]] += 1
    z = (hidden - kept / 2) / np.sqrt(kept / 4)
    assert np.abs(z).max() < 4.5


@pytest.mark.parametrize(
    ("fraction", "n_genes", "context", "n_masked"),
    [
        (0.5, 1, None, 1),
        (0.5, 7, None, 4),
        (0.01, 10, None, 1),
        (0.3, 10, None, 3),
        (0.3, 100, 20, 6),
        (1.0, 10, None, 10),
        (0.0, 10, None, 0),
    ],
)
def test_number_of_masked_tokens(fraction, n_genes, context, n_masked):
    batch = tokenize(np.ones((1, n_genes)), mask_fraction=fraction, context=context)
    assert batch.n_masked.tolist() == [n_masked]
    assert batch.max_masked == n_masked
    assert batch.masked.sum() == n_masked


def test_top_keeps_the_highest_counts_and_breaks_ties_at_random():
    counts = np.array([[1, 9, 2, 2, 2, 2, 8, 2, 2, 7000]], np.float32)
    drawn = [
        set(tokens_of(tokenize(counts, context=5, draw="top", seed=seed))[0]) for seed in range(40)
    ]
    assert all({1, 6, 9} < genes for genes in drawn)
    assert not any(0 in genes for genes in drawn)
    assert set().union(*drawn) == {1, 2, 3, 4, 5, 6, 7, 8, 9}


def test_each_distinct_count_of_a_cell_is_stored_once():
    counts = np.array([[1, 1, 2, 1], [1, 2, 2, 3], [2000, 2000, 1.5, 1]], np.float32)
    batch = tokenize(counts)
    # Large and fractional values have a slot for each token.
    assert len(batch.counts) == 2 + 3 + 4
    assert batch.value_index[0].unique().numel() == 2


def test_padding_and_views_of_a_batch():
    batch = tokenize([[1, 0, 3], [0, 2, 0], [0, 0, 0]], target_sum=4, mask_fraction=0.6)
    assert batch.lengths.tolist() == [2, 1, 0]
    assert batch.length_buckets == ((0, 3, 2, True),)
    assert (batch.n_cells, batch.n_tokens) == (3, 2)
    assert batch.valid.tolist() == [[True, True], [True, False], [False, False]]
    assert batch.masked.tolist() == [[True], [True], [False]]
    assert batch.genes[1].tolist() == [1, 0]
    values = batch.values().numpy()
    np.testing.assert_allclose(np.sort(values[0]), np.log([2, 4]), rtol=1e-6)
    np.testing.assert_allclose(values[1:], [[np.log(5), 0], [0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(batch.targets()[:2, 0], values[:2, 0])


@pytest.mark.parametrize("in_order", [True, False])
def test_length_buckets_cover_a_batch_and_fit_their_longest_cell(in_order):
    lengths = np.random.default_rng(0).integers(0, 200, 150)
    lengths = -np.sort(-lengths) if in_order else lengths
    batch = tokenize(np.arange(200) < lengths[:, None])
    starts, ends, widths, padded = zip(*batch.length_buckets, strict=True)
    assert starts == (0, *ends[:-1])
    assert ends[-1] == 150
    assert widths == tuple(
        max(1, lengths[start:end].max()) for start, end in zip(starts, ends, strict=True)
    )
    assert padded == tuple(
        bool((lengths[start:end] < width).any())
        for start, end, width in zip(starts, ends, widths, strict=True)
    )
    if in_order:
        taken = sum((b.end - b.start) * b.width for b in batch.length_buckets)
        assert taken < 0.7 * 150 * lengths.max()


def test_buckets_fit_the_caches_of_a_cpu():
    batch = tokenize(np.ones((100, 600)))
    ends = [0, 28, 56, 84, 100]  # 28 cells are the first to have 2**14 tokens
    expected = [(*bounds, 600, False) for bounds in itertools.pairwise(ends)]
    assert list(batch.length_buckets) == expected
    wide = tokenize(np.ones((20, 3000)))
    assert [(b.start, b.end) for b in wide.length_buckets] == [(0, 16), (16, 20)]


def test_a_batch_on_a_gpu_is_packed_without_waiting_for_it():
    lengths = np.random.default_rng(0).integers(0, 60, 40)
    batch = tokenize(np.arange(60) < lengths[:, None], context=50)
    assert batch.packing is None
    with FakeTensorMode(allow_non_fake_inputs=True):
        there = batch.to("cuda")
    assert there.genes.device.type == "cuda"
    assert {part.device.type for part in there.packing[:2]} == {"cuda"}
    assert there.packing.places.shape == (np.minimum(lengths, 50).sum(),)
    assert batch.packed().to("cpu").packing is None
    empty = tokenize(np.zeros((3, 4)))
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert empty.to("cuda").packing is None


@pytest.mark.parametrize(
    ("counts", "gene_map"), [(np.zeros((3, 4)), None), (np.ones((3, 4)), [-1] * 4)]
)
def test_cells_without_genes_have_no_tokens(counts, gene_map):
    batch = tokenize(counts, gene_map=gene_map, mask_fraction=0.5, quantile_bins=3)
    assert batch.lengths.tolist() == batch.n_masked.tolist() == [0, 0, 0]
    assert batch.max_masked == 0
    assert not batch.valid.any()
    assert not batch.values().any()


def test_rows_may_be_none_or_repeated(make_counts):
    counts = make_counts(5, 20)
    assert tokenize(counts, rows=np.array([], np.int64)).n_cells == 0
    batch = tokenize(counts, rows=[3, 1, 3])
    assert batch.cells.tolist() == [3, 1, 3]
    cells = tokens_of(tokenize(counts))
    assert tokens_of(batch) == [cells[3], cells[1], cells[3]]


@pytest.mark.parametrize(
    "options",
    [
        {"context": 0},
        {"mask_fraction": -0.1},
        {"mask_fraction": 1.1},
        {"target_sum": 0},
        {"target_sum": float("nan")},
        {"draw": "best"},
    ],
)
def test_bad_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Tokenizer(**options)


@given(COUNT_MATRICES, st.integers(0, 2**32 - 1))
@quick
def test_shares_and_library_sizes_are_of_the_whole_cell(counts, seed):
    """Not only of the genes that are drawn; shares are of genes of the vocabulary alone."""
    rng = np.random.default_rng(seed)
    gene_map = np.arange(counts.shape[1])
    gene_map[rng.random(len(gene_map)) < 0.2] = UNKNOWN
    gene_map[rng.random(len(gene_map)) < 0.2] = COUNTED
    batch = tokenize(counts, seed, gene_map=gene_map, context=3, mask_fraction=0.4, log_shares=True)
    wide = counts.astype(float)
    known = np.log1p(wide[:, gene_map >= 0])
    sizes = wide[:, gene_map != UNKNOWN].sum(axis=1)
    for cell, length in enumerate(batch.lengths.tolist()):
        assert batch.library_sizes[cell] == pytest.approx(sizes[cell] if length else 0, rel=1e-6)
        genes = batch.genes[cell, :length].numpy()
        found = batch.log_shares[batch.value_index[cell, :length]]
        columns = [int(np.flatnonzero(gene_map == gene)[0]) for gene in genes]
        expected = 100 * np.log1p(wide[cell, columns]) / known[cell].sum()
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert tokenize(counts).log_shares is None
