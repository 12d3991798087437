"""Two profiles side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

from turbospec.sidecar.profiles.key import differing
from turbospec.sidecar.profiles.profile import Coordinates, Profile


@dataclass(frozen=True, slots=True)
class CommonCell:
    """Steps that both profiles measured, in seconds."""

    coordinates: Coordinates
    first_seconds: float
    second_seconds: float

    @property
    def ratio(self) -> float:
        """Above 1: slower in the second profile."""
        return self.second_seconds / self.first_seconds


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs. `common` is sorted by coordinates; the counts are of cells that only one has."""

    first: Profile
    second: Profile
    differing: tuple[str, ...]
    common: tuple[CommonCell, ...]
    only_first: int
    only_second: int

    @property
    def median_ratio(self) -> float | None:
        """None: no common cell."""
        return median(cell.ratio for cell in self.common) if self.common else None

    def by_distance(self) -> list[CommonCell]:
        """The common cells, those whose times are furthest apart (in either direction) first."""
        return sorted(self.common, key=lambda cell: abs(math.log(cell.ratio)), reverse=True)


def compare(first: Profile, second: Profile) -> Comparison:
    """Compares cell by cell, those about the same steps."""
    at_first = {cell.coordinates: cell.seconds for cell in first.cells}
    at_second = {cell.coordinates: cell.seconds for cell in second.cells}
    common = sorted(at_first.keys() & at_second.keys())
    return Comparison(
        first=first,
        second=second,
        differing=differing(first.key, second.key),
        common=tuple(CommonCell(at, at_first[at], at_second[at]) for at in common),
        only_first=len(at_first) - len(common),
        only_second=len(at_second) - len(common),
    )
