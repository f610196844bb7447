from __future__ import annotations

import uuid

import pytest

from scenc.datasets._catalogue import Version
from scenc.datasets._resolve import resolve

IDS = [str(uuid.UUID(int=(i + 1) * 0x0123456789ABCDEF0F1E2D3C4B5A6978 % 2**128)) for i in range(5)]


class Known:
    """A catalogue in memory."""

    def __init__(self, *versions):
        self._versions = versions

    def versions(self, dataset_id):
        return [version for version in self._versions if version.dataset_id == dataset_id]

    def listing(self):
        return list({v.dataset_id: v for v in reversed(self._versions)}.values())


def version(dataset_id, cells=100, number=0):
    return Version(dataset_id, f"v{number}", "", cells, "https://x/y.h5ad", 1)


def slips(dataset_id, n):
    """Replace n letters by one that no id has."""
    return "".join("x" if i < n else letter for i, letter in enumerate(dataset_id))


@pytest.fixture
def catalogue():
    return Known(*(version(name, 100 + i) for i, name in enumerate(IDS)))


def test_an_id_is_found_as_it_is(catalogue):
    found = resolve(catalogue, IDS[2], None, None)
    assert (found.version.dataset_id, found.how) == (IDS[2], "by its id")


def test_the_corrected_id_goes_before_the_printed_one(catalogue):
    assert resolve(catalogue, IDS[1], IDS[3], 103).version.dataset_id == IDS[1]
    assert resolve(catalogue, str(uuid.UUID(int=1)), IDS[3], 103).version.dataset_id == IDS[3]


@pytest.mark.parametrize(
    ("n_slips", "cells", "accepted"),
    [(1, 999, True), (4, 999, True), (5, 999, False), (5, 101, True), (8, 101, True)]
    + [(9, 101, False)],
)
def test_a_near_id_is_taken_if_near_enough_for_its_number_of_cells(
    catalogue, n_slips, cells, accepted
):
    found = resolve(catalogue, None, slips(IDS[1], n_slips), cells)
    assert (found.version is not None) == accepted
    assert f"at {n_slips} edits" in found.how
    if accepted:
        assert found.version.dataset_id == IDS[1]
    else:
        assert f"nearest id: {IDS[1]}" in found.how


def test_a_letter_too_few_or_too_many_is_one_edit(catalogue):
    for printed in (IDS[1][:10] + IDS[1][11:], IDS[1][:10] + "f" + IDS[1][10:]):
        found = resolve(catalogue, None, printed, None)
        assert found.version.dataset_id == IDS[1]
        assert "at 1 edits" in found.how


def test_of_two_near_ids_none_is_guessed():
    twin = IDS[0][:-1] + ("0" if IDS[0][-1] != "0" else "1")
    between = IDS[0][:-1] + "x"
    found = resolve(Known(version(IDS[0]), version(twin)), None, between, 100)
    assert found.version is None


def test_what_a_user_types_is_never_replaced_by_something_near(catalogue):
    found = resolve(catalogue, slips(IDS[1], 1), None, None)
    assert found.version is None
    assert f"nearest id: {IDS[1]} at 1 edits" in found.how


def test_data_sets_with_as_many_cells_are_named(catalogue):
    found = resolve(catalogue, None, str(uuid.UUID(int=7)), 104)
    assert found.version is None
    assert f"with 104 cells: {IDS[4]}" in found.how


def test_the_newest_version_with_the_printed_number_of_cells_is_chosen():
    known = Known(*(version(IDS[0], cells, n) for n, cells in enumerate((90, 100, 100, 80))))
    assert resolve(known, IDS[0], None, 90).version.version_id == "v0"
    assert resolve(known, IDS[0], None, None).version.version_id == "v0"
    earlier = resolve(known, IDS[0], None, 100)
    assert earlier.version.version_id == "v1"
    assert "an earlier version, which has 100 cells" in earlier.how
    neither = resolve(known, IDS[0], None, 70)
    assert neither.version.version_id == "v0"
    assert "no version has 70 cells, the newest 90" in neither.how


def test_an_empty_catalogue_holds_nothing():
    assert resolve(Known(), IDS[0], IDS[0], 1).version is None
