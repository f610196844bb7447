"""Find the version of a data set that a possibly misprinted id stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rapidfuzz.distance import Levenshtein

from scenc.datasets._catalogue import is_id

if TYPE_CHECKING:
    from scenc.datasets._catalogue import Catalogue, Version

# Two random ids differ in some 20 letters or more. A near one is taken up to the first number of
# letters; with the right number of cells, up to the second.
_NEAR, _NEAR_WITH_CELLS = 4, 8
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Resolution:
    """The version of a data set that an id stands for.

    Attributes
    ----------
    version
        The version; ``None`` if there is none.
    how
        How it was found, or what is near.
    """

    version: Version | None
    how: str


def resolve(
    catalogue: Catalogue, dataset_id: str | None, printed_id: str | None, cells: int | None
) -> Resolution:
    """Find a data set by its id, else by an id that is near the one in print.

    Parameters
    ----------
    catalogue
        Where to look.
    dataset_id
        The id; ``None`` if only the printed one is known.
    printed_id
        The id as printed, which may be misprinted; ``None``: only `dataset_id` counts.
    cells
        The number of cells to expect. The newest version with just so many is chosen, else the
        newest.

    Raises
    ------
    RefusedError
        The API fails.
    """
    for candidate in dict.fromkeys((dataset_id, printed_id)):
        if is_id(candidate) and (versions := catalogue.versions(str(candidate))):
            return _choose(versions, cells, "by its id")
    return _near(catalogue, printed_id or dataset_id or "", cells, accept=printed_id is not None)


def _near(catalogue: Catalogue, wanted: str, cells: int | None, accept: bool) -> Resolution:
    """Compare with all ids there are, by edit distance, and with all numbers of cells."""
    listing = catalogue.listing()
    if not listing:
        return Resolution(None, "not found, and the catalogue is empty")
    distances = [Levenshtein.distance(wanted.lower(), known.dataset_id) for known in listing]
    least = min(distances)
    nearest = [known for known, d in zip(listing, distances, strict=True) if d == least]
    limit = _NEAR_WITH_CELLS if nearest[0].cells == cells else _NEAR
    if accept and len(nearest) == 1 and least <= limit:
        # The listing's own entry serves where the versions cannot be listed.
        versions = catalogue.versions(nearest[0].dataset_id) or nearest
        return _choose(versions, cells, f"by an id at {least} edits from {wanted}")
    hints = [f"nearest id: {nearest[0].dataset_id} at {least} edits"]
    alike = [known.dataset_id for known in listing if cells is not None and known.cells == cells]
    if alike:
        more = f" and {len(alike) - _SHOWN} more" if len(alike) > _SHOWN else ""
        hints.append(f"with {cells:,} cells: {', '.join(alike[:_SHOWN])}{more}")
    return Resolution(None, f"not found; {'; '.join(hints)}")


def _choose(versions: list[Version], cells: int | None, how: str) -> Resolution:
    newest = versions[0]
    if cells is None or newest.cells == cells:
        return Resolution(newest, how)
    for version in versions[1:]:
        if version.cells == cells:
            return Resolution(version, f"{how}; an earlier version, which has {cells:,} cells")
    return Resolution(newest, f"{how}; no version has {cells:,} cells, the newest {newest.cells:,}")
