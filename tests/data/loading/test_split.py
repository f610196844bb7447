from __future__ import annotations

import numpy as np
import pytest

from scenc.data.loading._split import LEFT_OUT, TEST, TRAIN, VALIDATION, split_cells


def test_cells_are_split_by_shares_and_the_rest_is_left_out():
    usable = np.arange(1000) % 10 > 0
    roles = split_cells(usable, None, 0.1, 0.05, seed=1)
    assert ((roles == LEFT_OUT) == ~usable).all()
    counts = [int((roles == role).sum()) for role in (TRAIN, VALIDATION, TEST)]
    assert counts == [765, 90, 45]
    np.testing.assert_array_equal(roles, split_cells(usable, None, 0.1, 0.05, seed=1))
    assert (roles != split_cells(usable, None, 0.1, 0.05, seed=2)).any()


def test_a_small_share_is_one_cell_and_none_is_none():
    counts = np.bincount(split_cells(np.ones(50, bool), None, 0.001, 0.0, seed=0))
    assert counts.tolist() == [49, 1]


def test_groups_stay_together_at_about_the_share():
    groups = np.repeat(np.arange(50), np.random.default_rng(0).integers(5, 40, 50))
    roles = split_cells(np.ones(len(groups), bool), groups, 0.2, 0.1, seed=3)
    for role, share in ((VALIDATION, 0.2), (TEST, 0.1)):
        assert 0.7 * share < (roles == role).mean() < 1.3 * share
    assert all(len(set(roles[groups == group])) == 1 for group in range(50))


def test_a_group_larger_than_the_share_is_taken_only_if_all_are():
    groups = np.repeat([0, 1, 2], [900, 60, 40])
    roles = split_cells(np.ones(1000, bool), groups, 0.1, 0.0, seed=0)
    assert (roles[groups == 0] == TRAIN).all()
    large = np.repeat([0, 1, 2], [400, 350, 250])
    roles = split_cells(np.ones(1000, bool), large, 0.1, 0.0, seed=0)
    assert set(large[roles == VALIDATION]) == {2}


def test_cells_without_group_are_trained_on():
    groups = np.repeat([-1, 0, 1, 2], 25)
    roles = split_cells(np.ones(100, bool), groups, 0.3, 0.3, seed=0)
    assert (roles[groups == -1] == TRAIN).all()
    assert sorted(np.bincount(roles)) == [25, 25, 50]


@pytest.mark.parametrize("groups", [None, np.array([0, 0, 1, 1])])
def test_too_few_are_refused(groups):
    usable = np.array([True, True, False, False])
    with pytest.raises(ValueError, match="need at least 3 .*; there are"):
        split_cells(usable, groups, 0.3, 0.3, seed=0)
