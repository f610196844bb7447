from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest

from scenc.data import CellFiles, Tokenizer


@pytest.fixture(scope="module")
def cells(atlas):
    return CellFiles(
        atlas[0],
        batch_size=16,
        buffer_size=64,
        chunk_size=4,
        tokenizer=Tokenizer(context=12, mask_fraction=0.5),
        progress=False,
    )


def flat(batches):
    """What tells batches apart: cells, genes and masks of each."""
    return [(b.cells.tolist(), b.genes.tolist(), b.n_masked.tolist()) for b in batches]


def loader_of(cells, **settings):
    loader = cells.train_dataloader()
    for name, value in settings.items():
        setattr(loader, name, value)
    return loader


def test_the_number_of_threads_changes_nothing(cells):
    expected = flat(loader_of(cells, num_workers=1, prefetch=1))
    assert len(expected) == len(cells.train_dataloader())
    for n in (2, 5):
        assert flat(loader_of(cells, num_workers=n, prefetch=n)) == expected


def test_each_pass_is_a_new_epoch_and_epochs_can_be_asked_for(cells):
    loader = cells.train_dataloader()
    first, second = flat(loader), flat(loader)
    assert loader.epoch == 2
    assert first != second
    assert flat(cells.train_dataloader(epoch=1)) == second
    assert sorted(c for b in first for c in b[0]) != [c for b in first for c in b[0]]


def test_a_pass_goes_on_where_another_was(cells):
    whole = flat(cells.train_dataloader(epoch=3))
    for n in (0, 1, 5, len(whole)):
        loader = cells.train_dataloader(epoch=3)
        begun = flat(itertools.islice(loader, n))
        assert loader.state_dict() == {"epoch": 3, "batch": n}
        again = cells.train_dataloader()
        again.load_state_dict(loader.state_dict())
        assert again.state_dict() == loader.state_dict()
        assert begun + flat(again) == whole
        assert flat(again) == flat(cells.train_dataloader(epoch=4))


def test_validation_is_the_same_at_each_pass(cells):
    loader = cells.val_dataloader()
    assert flat(loader) == flat(loader)
    found = sorted(c for b in flat(loader) for c in b[0])
    assert found == cells.cells_of("validation").tolist()


def test_leaving_a_pass_ends_its_threads(cells):
    before = threading.active_count()
    batches = iter(cells.train_dataloader())
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_a_failing_file_ends_the_pass_with_its_name(cells, monkeypatch):
    loader = cells.train_dataloader()
    n_read = itertools.count()
    read = loader.read

    def fail_late(planned):
        if next(n_read) == 2:
            raise OSError("b.h5ad: the disk is gone")
        return read(planned)

    monkeypatch.setattr(loader, "read", fail_late)
    before = threading.active_count()
    with pytest.raises(OSError, match="the disk is gone"):
        list(loader)
    assert threading.active_count() == before


def test_batches_are_made_ahead_while_one_is_used(cells, monkeypatch):
    loader = loader_of(cells, prefetch=3, num_workers=1)
    make, made = loader.make, []

    def note(window, batch):
        made.append(batch)
        return make(window, batch)

    monkeypatch.setattr(loader, "make", note)
    batches = iter(loader)
    next(batches)
    until = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(made) == 4
    batches.close()


def test_waiting_is_measured(cells, monkeypatch):
    loader = cells.train_dataloader()
    read = loader.read

    def slowly(planned):
        time.sleep(0.05)
        return read(planned)

    monkeypatch.setattr(loader, "read", slowly)
    n_windows = sum(1 for _ in loader)  # at least one window
    assert n_windows
    assert loader.waited >= 0.05


def test_batches_hold_longest_cells_first(cells):
    for batch in (*cells.train_dataloader(), *cells.predict_dataloader()):
        # Cells are ordered by all their genes, tokens end at the context.
        assert (np.diff(batch.lengths.numpy()) <= 0).all()
