"""Training of one job in two processes, under Lightning's DDP."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.slow
def test_a_job_can_train_in_two_processes(make_benchmark, tiny_encoding, monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    ddp = tiny_encoding(
        "log", name="two", training={"devices": 2, "strategy": "ddp", "batch_size": 16}
    )
    one = tiny_encoding("log", name="one")
    results = make_benchmark(encodings=[ddp, one]).run(progress=False)
    assert results.jobs["status"].tolist() == ["done"] * 6, results.jobs["reason"].tolist()
    curves = results.curves[results.curves["metric"] == "reconstruction_loss_validation"]
    two, one = (curves.loc[curves["encoding"] == name, "value"] for name in ("two", "one"))
    # Twice the processes, half the batch: the same batches.
    assert len(two) == len(one) == 2
    np.testing.assert_allclose(two, one, rtol=1e-3)


@pytest.mark.slow
def test_a_failure_in_other_processes_is_said(make_benchmark, tiny_encoding, monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    wrong = tiny_encoding(training={"devices": 2, "strategy": "no such strategy"})
    results = make_benchmark(encodings=[wrong]).run(progress=False)
    assert results.jobs["status"].tolist() == ["failed"] * 3
    assert "no such strategy" in results.jobs["reason"].iloc[0]
