from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SCRIPT = Path(__file__).with_name("train_on_ranks.py")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone():
    """What the script defines, to train the same in this process."""
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_adata, make_counts):
    """Data, and what two processes have trained on them."""
    folder = tmp_path_factory.mktemp("ranks")
    rng = np.random.default_rng(0)
    make_adata(make_counts(71, 20)).write_h5ad(folder / "masked.h5ad")
    np.save(folder / "vectors.npy", rng.normal(size=(20, 8)))
    # Neither their training nor their validation cells come in full batches of two processes.
    cells = make_adata(make_counts(91, 30, seed=1))
    cells.obs["batch"] = pd.Categorical(rng.choice(["one", "two", "three"], 91))
    cells.write_h5ad(folder / "pairs.h5ad")
    more = make_adata(make_counts(50, 30, seed=2))
    more.obs["batch"] = pd.Categorical(["four"] * 50)
    more.write_h5ad(folder / "pairs more.h5ad")
    done = subprocess.run(
        [sys.executable, SCRIPT, folder],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    # Warnings are errors there.
    assert done.returncode == 0, done.stderr
    return folder


def of_rank(folder, name, rank):
    with np.load(folder / f"{name} {rank}.npz") as found:
        return dict(found)


CASES = ("masked", "masked files", "pairs", "pairs of files", "pairs unmasked", "pairs stopped")


@pytest.mark.parametrize(
    "case",
    [*CASES, "masked dropout", "pairs decoded", "masked files resumed", "pairs resumed"],
)
def test_both_processes_end_with_the_same(folder, case):
    first, second = (of_rank(folder, case, rank) for rank in range(2))
    assert {*first} == {*second}
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_with_twice_the_batch(folder, alone, case):
    expected = alone["outcome"](alone["train"](alone["make"](folder, case), case, 1))
    found = of_rank(folder, case, 0)
    assert {*found} == {*expected}
    for name, values in expected.items():
        # Adam makes much of the rounding of small gradients.
        np.testing.assert_allclose(found[name], values, rtol=2e-3, atol=5e-4, err_msg=name)


def test_two_processes_validate_what_is_decoded_as_one(folder, alone):
    # Validation draws no z: the terms are those of one process.
    case = "pairs validated"
    expected = alone["outcome"](alone["train"](alone["make"](folder, case), case, 1))
    found = of_rank(folder, case, 0)
    terms = [name for name in expected if name.endswith(("_validation", "validation_loss"))]
    assert len(terms) == 6
    for name in terms:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("case", ["masked files", "pairs", "masked dropout", "pairs decoded"])
def test_a_training_left_at_one_process_sigterm_goes_on_to_the_bit(folder, case):
    whole, resumed = of_rank(folder, case, 0), of_rank(folder, f"{case} resumed", 0)
    for name, values in whole.items():
        np.testing.assert_array_equal(values, resumed[name], err_msg=name)


def test_both_processes_stop_early(folder):
    assert len(of_rank(folder, "pairs stopped", 0)["history validation_loss"]) == 3


def test_each_process_has_a_seed_and_buffers_stay_where_they_are(folder):
    first, second = (of_rank(folder, "inspected", rank) for rank in range(2))
    assert first["seed"] == 0  # the model's
    assert second["seed"] != 0
    assert not first["broadcasts"]
    assert not second["broadcasts"]
