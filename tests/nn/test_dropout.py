from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from scenc.nn._dropout import Dropout, attention

N_CELLS, N_HEADS, N_TOKENS, D, P = 2, 3, 160, 16, 0.1


def draws(n=3, n_tokens=N_TOKENS, d=D, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (N_CELLS, N_HEADS, n_tokens, d)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(n)]


def first_seen(*n_seen, n_tokens=N_TOKENS):
    """Return the attention mask of cells with so many tokens."""
    return (torch.arange(n_tokens) < torch.tensor(n_seen)[:, None])[:, None, None]


def factors(n_tokens=N_TOKENS, p=P, seed=0):
    """Return what attention's weights are multiplied by: equal ones, seen through a unit matrix."""
    equal = torch.zeros(N_CELLS, N_HEADS, n_tokens, n_tokens)
    torch.manual_seed(seed)
    return attention(equal, equal, torch.eye(n_tokens).expand_as(equal), None, p) * n_tokens


def plain(query, key, value, attn_mask, kept):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    return (scores.softmax(-1) * kept) @ value


@pytest.mark.parametrize("p", [0.1, 0.5, 0.013])
def test_numbers_are_dropped_independently_with_the_chance_given(p):
    torch.manual_seed(0)
    x = torch.ones(4, 500, 300)
    dropped = Dropout(p)(x)
    assert dropped.shape == x.shape
    torch.testing.assert_close(dropped.unique(), torch.tensor([0, 1 / (1 - p)]))
    check_mask((dropped == 0).numpy().reshape(-1, 300), p)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_weights_are_dropped_independently_with_the_chance_given(p):
    found = factors(300, p)
    torch.testing.assert_close(found.unique(), torch.tensor([0, 1 / (1 - p)]))
    check_mask((found == 0).numpy().reshape(-1, 300), p)


def check_mask(dropped, p):
    """Compare a mask with independent draws: in all, by row, by column, and in pairs."""
    n_rows, n = dropped.shape
    assert stats.binomtest(int(dropped.sum()), dropped.size, p).pvalue > 1e-3
    for axis, size in ((0, n_rows), (1, n)):
        z = (dropped.sum(axis) - size * p) / np.sqrt(size * p * (1 - p))
        # The spread of the sums would be larger if numbers were dropped together.
        assert abs(z.std() - 1) < 0.15
        assert np.abs(z).max() < 5.5
    centred = (dropped - p) / np.sqrt(p * (1 - p))
    for row_step, column_step in ((0, 1), (1, 0), (1, 1), (0, 7), (5, 0), (0, 64)):
        one = centred[: n_rows - row_step, : n - column_step]
        other = centred[row_step:, column_step:]
        assert abs((one * other).mean()) * np.sqrt(one.size) < 4


def test_gradients_are_dropped_where_numbers_are():
    torch.manual_seed(0)
    x = torch.randn(3, 40, 50, requires_grad=True)
    dropped = Dropout(P)(x)
    grad = torch.randn(3, 40, 50).transpose(0, 1).contiguous().transpose(0, 1)  # strided
    dropped.backward(grad)
    expected = torch.where(dropped == 0, 0, grad / (1 - P))
    torch.testing.assert_close(x.grad, expected)
    torch.testing.assert_close(dropped, torch.where(dropped == 0, 0, x / (1 - P)))


@pytest.mark.parametrize("shape", [(), (0,), (5,), (0, 4), (2, 3, 0)])
def test_any_shape_can_be_dropped(shape):
    x = torch.randn(shape, requires_grad=True)
    dropped = Dropout(P)(x)
    dropped.sum().backward()
    assert dropped.shape == x.grad.shape == shape


def test_nothing_is_dropped_in_evaluation():
    x = torch.randn(20, 30)
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros_like(x))


@pytest.mark.parametrize("n_tokens", [128, 160, 700])
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
def test_attention_is_that_of_a_plain_one_with_the_same_mask(n_tokens, padded):
    mask = first_seen(n_tokens, 70, n_tokens=n_tokens) if padded else None
    *inputs, grad = draws(4, n_tokens)
    kept = factors(n_tokens)
    ours = [x.clone().requires_grad_() for x in inputs]
    torch.manual_seed(0)
    mixed = attention(*ours, mask, P)
    mixed.backward(grad)
    # In double precision, against which rounding shows.
    theirs = [x.double().requires_grad_() for x in inputs]
    expected = plain(*theirs, mask, kept.double())
    expected.backward(grad.double())
    torch.testing.assert_close(mixed.double(), expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [30.0, 1e4])
def test_large_scores_neither_overflow_nor_vanish(scale):
    query, key, value = draws()
    query = query * scale
    torch.manual_seed(0)
    found = attention(query, key, value, None, P)
    expected = plain(query.double(), key.double(), value.double(), None, factors().double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)


def test_attention_without_dropout_is_the_mean():
    query, key, value = draws()
    mask = first_seen(N_TOKENS, 100)
    torch.manual_seed(0)
    n = 200
    mean = sum(attention(query, key, value, mask, 0.2) for _ in range(n)) / n
    whole = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    # Of each: sqrt(sum of squared weights * p / (1 - p) / n) of numbers of unit size.
    assert (mean - whole).abs().mean() < 0.02
    torch.testing.assert_close(attention(query, key, value, mask, 0.0), whole)


def test_draws_follow_from_the_random_state():
    x, (query, key, value) = torch.ones(50, 60), draws()
    drop = Dropout(P)

    def both():
        return drop(x), attention(query, key, value, None, P)

    torch.manual_seed(0)
    one, two = both(), both()
    torch.manual_seed(0)
    again = both()
    for first, second, repeated in zip(one, two, again, strict=True):
        assert torch.equal(first, repeated)
        assert not torch.equal(first, second)


def test_the_number_of_threads_changes_nothing():
    *inputs, grad = draws(4)

    def run(n_threads):
        torch.set_num_threads(n_threads)
        torch.manual_seed(0)
        leaves = [x.clone().requires_grad_() for x in inputs]
        mixed = Dropout(P)(attention(*leaves, first_seen(90, 150), P))
        mixed.backward(grad)
        assert torch.get_num_threads() == n_threads
        return [mixed, *(leaf.grad for leaf in leaves)]

    for one, other in zip(run(1), run(3), strict=True):
        assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    torch.set_num_threads(2)
    inputs = draws()
    attention(*inputs, None, P)
    child = multiprocessing.get_context("fork").Process(target=attention, args=(*inputs, None, P))
    child.start()
    child.join(60)
    assert child.exitcode == 0


@pytest.mark.parametrize("which", [0, 1, 2], ids=["query", "key", "value"])
def test_nan_stays_visible(which):
    inputs = draws()
    inputs[which][0, 0, 3] = torch.nan
    out = attention(*inputs, None, P)
    assert out[0, 0, 3].isnan().all()
    assert not out[1].isnan().any()


@pytest.mark.parametrize("how", ["short", "double", "other mask"])
def test_what_has_no_loops_of_its_own_is_left_to_pytorch(how):
    dtype = torch.float64 if how == "double" else torch.float32
    inputs = draws(n_tokens=32 if how == "short" else N_TOKENS, dtype=dtype)
    mask = None
    if how == "other mask":
        mask = torch.ones(N_CELLS, 1, 1, N_TOKENS, dtype=torch.bool)
        mask[0, ..., 7] = False
    torch.manual_seed(0)
    found = attention(*inputs, mask, P)
    torch.manual_seed(0)
    expected = F.scaled_dot_product_attention(*inputs, attn_mask=mask, dropout_p=P)
    assert torch.equal(found, expected)
