"""Judging forms by cells that they were not fitted to: scattered ones, and whole regions at once."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from turbospec.engines.bench.costmodels.forms import FORMS, Form
from turbospec.engines.bench.costmodels.sources import Source
from turbospec.engines.profiling.fit import FOLDS, MEDIAN_GOAL, P95_GOAL
from turbospec.engines.profiling.statistics import uncertainty
from turbospec.sidecar.core.cost_features import octave
from turbospec.sidecar.profiles.profile import Cell

_SEED = "folds"
# With fewer groups nothing is inside of the others.
_LEAST_GROUPS = 3
# Errors of so few cells have no 95th percentile to speak of.
_LEAST_CELLS = 3

Group = Callable[[Cell], int | None]
"""The region that a cell is in along one axis; None: it is never held out."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A cell, and what a model said of it that was fitted without its region.

    `outermost`: nothing beyond the region was known, so the model extrapolates.
    """

    axis: str
    cell: Cell
    predicted_seconds: float
    outermost: bool

    @property
    def error(self) -> float:
        """(predicted - measured) / measured."""
        return self.predicted_seconds / self.cell.seconds - 1.0


@dataclass(frozen=True, slots=True)
class Errors:
    """|error| over held-out cells, in the median and at the 95th percentile."""

    cells: int
    median: float
    p95: float

    @property
    def holds(self) -> bool:
        """Whether both goals are met."""
        return self.median <= MEDIAN_GOAL and self.p95 <= P95_GOAL


@dataclass(frozen=True, slots=True)
class Judged:
    """One form on one source. `size`: numbers that it has to learn."""

    form: str
    size: int
    held_out: tuple[HeldOut, ...]

    def errors(self, axis: str | None = None, *, outermost: bool = False) -> Errors | None:
        """Along one axis, or along all (None), inside or beyond what is known; None: too few cells."""
        found = [
            abs(each.error)
            for each in self.held_out
            if axis in (None, each.axis) and each.outermost == outermost
        ]
        if len(found) < _LEAST_CELLS:
            return None
        return Errors(len(found), *np.percentile(found, [50, 95]).tolist())

    @property
    def holds(self) -> bool:
        """Whether the goals are met inside of what is known, along every axis."""
        found = [self.errors(axis) for axis in AXES]
        return any(found) and all(errors.holds for errors in found if errors is not None)


def judge(source: Source) -> list[Judged]:
    """All forms, from simple to rich."""
    return [
        Judged(form.name, form.size(source.cells, source.engine), tuple(_held_out(form, source)))
        for form in FORMS
    ]


def simplest(judged: Sequence[Judged]) -> Judged | None:
    """Of those that hold, the one with the fewest numbers to learn; None where none holds."""
    return min((each for each in judged if each.holds), key=lambda each: each.size, default=None)


def noise(source: Source) -> float | None:
    """How uncertain the cells' times are by their steps' spread, in parts of them, in the median; None where
    that is not known."""
    known = [cell for cell in source.cells if cell.spread_seconds]
    if not known:
        return None
    return median(uncertainty([cell.seconds], [cell.spread_seconds], cell.steps) for cell in known)


def _held_out(form: Form, source: Source) -> list[HeldOut]:
    found = []
    for axis, group in AXES.items():
        groups = _groups(source.cells, axis, group)
        for region, cells in groups.items():
            chosen = set(cells)
            others = [cell for cell in source.cells if cell not in chosen]
            predict = form.fit(others, source.engine)
            outermost = axis != _SCATTERED and region in (min(groups), max(groups))
            found += [HeldOut(axis, cell, predict(cell), outermost) for cell in cells]
    return found


def _groups(cells: Sequence[Cell], axis: str, group: Group) -> dict[int, list[Cell]]:
    groups: dict[int, list[Cell]] = {}
    if axis == _SCATTERED:
        shuffled = random.Random(_SEED).sample(cells, len(cells))
        groups = {fold: shuffled[fold::FOLDS] for fold in range(min(FOLDS, len(shuffled)))}
    else:
        for cell in cells:
            if (region := group(cell)) is not None:
                groups.setdefault(region, []).append(cell)
    return groups if len(groups) >= _LEAST_GROUPS else {}


def _length(cell: Cell) -> int | None:
    # What skipping the drafter saves can be told by nothing else.
    return None if cell.drafter_skipped else cell.proposal_length


def _context(cell: Cell) -> int:
    return round(math.log2(max(cell.context_tokens / cell.requests, 1.0)))


_SCATTERED = "cells"
AXES: dict[str, Group] = {
    _SCATTERED: lambda _cell: None,
    "requests": lambda cell: octave(cell.requests),
    "length": _length,
    "context": _context,
}
"""`cells`: a fifth of the cells at a time, at random. The others: all cells of one region at a time, by
octaves of requests, lengths, octaves of context per request.
"""
