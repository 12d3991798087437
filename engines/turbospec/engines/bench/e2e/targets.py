"""What `goodput` should reach, and whether it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from turbospec.engines.bench.e2e.schedule import GOODPUT, NONE, STATICS
from turbospec.engines.bench.e2e.scoring import Cell, Estimate, Scores

_OF_BEST_OVERALL = 0.97
_OF_BEST_ANYWHERE = 0.93
_OF_NONE_ANYWHERE = 0.95


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a ratio, to be reached or, with `exceed`, to be exceeded."""

    name: str
    bound: float
    estimate: Estimate
    exceed: bool = False

    @property
    def met(self) -> bool:
        """About the estimate's value; its interval says how sure that is."""
        value = self.estimate.value
        return value > self.bound if self.exceed else value >= self.bound


def targets(scores: Scores) -> list[Target]:
    """All of them."""
    overall = scores.over_best(GOODPUT)
    of_best, best_where = _worst(scores, lambda cell: scores.over_best(GOODPUT, [cell]))
    of_none, none_where = _worst(scores, lambda cell: scores.over(GOODPUT, NONE, [cell]))
    static, of_static = min(
        ((name, scores.over(GOODPUT, name)) for name in STATICS), key=lambda pair: pair[1].value
    )
    return [
        Target(f"{GOODPUT} / best, geometric mean of all cells", _OF_BEST_OVERALL, overall),
        Target(f"{GOODPUT} / best in its worst cell ({best_where})", _OF_BEST_ANYWHERE, of_best),
        Target(f"{GOODPUT} / {NONE} in its worst cell ({none_where})", _OF_NONE_ANYWHERE, of_none),
        Target(
            f"{GOODPUT} / the best single length ({static}), geometric mean of all cells",
            1.0,
            of_static,
            exceed=True,
        ),
    ]


def _worst(scores: Scores, ratio: Callable[[Cell], Estimate]) -> tuple[Estimate, str]:
    estimate, (pair, concurrency) = min(
        ((ratio(cell), cell) for cell in scores.cells), key=lambda x: x[0].value
    )
    return estimate, f"{pair} at {concurrency}"
