from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from scenc.data import Neighborhoods, Tokenizer, ViewDataset, open_rows
from scenc.data.loading._samplers import Request, _share
from scenc.nn import CellTransformer, ModelConfig
from scenc.train import ContrastivePlan, MaskedExpressionPlan, TrainConfig, _ranks

N_CELLS, N_GENES = 13, 30
SIZES = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_feedforward": 32, "expression_hidden": 16}


class Threads:
    """As much of torch.distributed as is used, with threads for ranks."""

    def __init__(self, world_size):
        self.world_size = world_size
        self._own = threading.local()
        self._barrier = threading.Barrier(world_size, timeout=60)
        self._slots = [None] * world_size

    def run(self, function):
        """Return what the function returns on each rank."""

        def call(rank):
            self._own.rank = rank
            return function(rank)

        with ThreadPoolExecutor(self.world_size) as pool:
            return list(pool.map(call, range(self.world_size)))

    def is_initialized(self):
        return hasattr(self._own, "rank")

    def get_rank(self):
        return self._own.rank

    def get_world_size(self):
        return self.world_size

    def all_gather(self, parts, values):
        self._slots[self._own.rank] = values.detach().clone()
        self._barrier.wait()
        for part, other in zip(parts, self._slots, strict=True):
            part.copy_(other)
        self._barrier.wait()

    def all_reduce(self, values):
        parts = [torch.empty_like(values) for _ in range(self.world_size)]
        self.all_gather(parts, values)
        values.copy_(torch.stack(parts).sum(dim=0))


@pytest.fixture(params=[2, 3, 5])
def ranks(request, monkeypatch):
    threads = Threads(request.param)
    for name in ("is_initialized", "get_rank", "get_world_size", "all_gather", "all_reduce"):
        monkeypatch.setattr(torch.distributed, name, getattr(threads, name))
    return threads


@pytest.fixture
def views(make_counts):
    rng = np.random.default_rng(0)
    known = Neighborhoods(
        anchors=rng.normal(size=(N_CELLS, 4)).astype(np.float32),
        neighbors=rng.integers(0, N_CELLS, (N_CELLS, 3)),
        odds=np.tile([0.3, 0.6, 1.0], (N_CELLS, 1)),
        batches=rng.integers(0, 3, N_CELLS),
    )
    rows = open_rows(sp.csr_matrix(make_counts(N_CELLS, N_GENES)))
    tokenizer = Tokenizer(context=15, mask_fraction=0.3, totals=True)
    return ViewDataset(rows, np.arange(N_GENES), tokenizer, known, (0.3, 0.9), 0.1)


def make_plan(plan=ContrastivePlan, **settings):
    torch.manual_seed(0)
    network = CellTransformer(ModelConfig(**SIZES, pooling="expression"), N_GENES)
    return plan(network, TrainConfig(**settings))


def step(plan, batch):
    """Return a batch's loss, the gradients, and its share of validation's sums."""
    loss = plan.training_step(batch, 0)
    loss.backward()
    grads = {n: w.grad for n, w in plan.network.named_parameters() if w.grad is not None}
    with torch.no_grad():
        return float(loss), grads, torch.stack(plan.validation_sums(batch))


def assert_averages_are(expected, found):
    """Compare what DDP makes of ranks' losses and gradients with those of one process."""
    loss, grads, sums = expected
    assert [one for one, _, _ in found] == pytest.approx([loss] * len(found), rel=1e-5)
    assert all({*own} >= {*grads} for _, own, _ in found)
    for name, grad in grads.items():
        average = torch.stack([own[name] for _, own, _ in found]).mean(dim=0)
        torch.testing.assert_close(average, grad, rtol=1e-3, atol=1e-6, msg=name)
    total = torch.stack([own for _, _, own in found]).sum(dim=0)
    torch.testing.assert_close(total, sums, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("negatives", ["batch", "all"])
def test_ranks_see_the_pairs_and_have_the_gradient_of_one_process(ranks, views, negatives):
    plan, rows = make_plan(negatives=negatives), np.random.default_rng(1).permutation(N_CELLS)
    parts = [_share(rows, 7, rank, ranks.world_size) for rank in range(ranks.world_size)]
    assert sum(part.n_repeated for part in parts) == -N_CELLS % ranks.world_size
    plans = [deepcopy(plan) for _ in parts]
    found = ranks.run(lambda rank: step(plans[rank], views[parts[rank]]))
    assert_averages_are(step(plan, views[Request(rows, 7)]), found)


def test_masked_tokens_weigh_the_same_however_many_a_rank_has(ranks, make_batch):
    # Cells of very different length, unevenly shared.
    counts = np.tril(np.ones((N_CELLS, N_GENES)), k=2) * np.arange(1, N_GENES + 1)
    plan = make_plan(MaskedExpressionPlan)
    shares = np.array_split(counts, ranks.world_size)
    plans = [deepcopy(plan) for _ in shares]
    batches = [make_batch(share, mask_fraction=0.5) for share in shares]
    found = ranks.run(lambda rank: step(plans[rank], batches[rank]))
    assert_averages_are(step(plan, make_batch(counts, mask_fraction=0.5)), found)


def test_without_other_ranks_nothing_is_sent():
    values = torch.arange(3.0)
    assert _ranks.sum_over_ranks(values) is values
    assert _ranks.gather_over_ranks(values) is values
