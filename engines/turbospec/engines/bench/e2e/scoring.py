"""Scores from tokens per second: cross-fitted ratios, bootstrap intervals, targets. Pure.

All averages are geometric, so ratios are averaged as differences of logarithms. *Best* at a cell is the
fastest of the candidates. Were it chosen and compared on the same repeats, noise would make it look faster
than any policy is, the more the more candidates there are; so it is chosen on the odd repeats and compared
on the even ones, and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Logs = NDArray[np.float64]
Fold = tuple[slice, slice]
"""Repeats on which the best is chosen, and those on which it is compared."""

ODD, EVEN = slice(0, None, 2), slice(1, None, 2)  # repeats count from 1
CROSS_FITTED: tuple[Fold, ...] = ((ODD, EVEN), (EVEN, ODD))

RESAMPLES = 4000
MIN_REPEATS = 4  # a half with one repeat says nothing about its noise
_PERCENTILES = (5.0, 95.0)  # a 90% interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """A ratio with its 90% bootstrap interval."""

    value: float
    low: float
    high: float


Cell = tuple[str, int]
"""Pair and concurrency."""


class Scores:
    """Ratios between policies, each with an interval.

    The bootstrap resamples repeats with replacement, odd ones from odd ones and even ones from even ones,
    independently for each cell; policies keep their common repeats, since they shared prompts and time.
    The best is chosen anew in each resample. A resample has one repeat fewer in each half: with n as small
    as 3, means of n draws vary by a third too little, means of n - 1 just as much as they should (Rao and
    Wu, 1988).
    """

    def __init__(
        self, speeds: Mapping[Cell, Mapping[str, Sequence[float]]], candidates: Sequence[str]
    ) -> None:
        """Takes tokens per second by cell and policy, one per repeat, and who may be the best.

        Raises ValueError unless every cell has the same policies, with as many repeats, at least four, and
        every speed is positive.
        """
        self.cells = tuple(speeds)
        self.policies = tuple(next(iter(speeds.values())))
        self._candidates = np.array([self.policies.index(name) for name in candidates])
        draw = np.random.default_rng(0)
        self._measured = {cell: _logs(by_policy, self.policies) for cell, by_policy in speeds.items()}
        self._resampled = {cell: _resampled(logs, draw) for cell, logs in self._measured.items()}

    def over_best(self, policy: str, cells: Sequence[Cell] | None = None) -> Estimate:
        """The policy over the best of the candidates: geometric mean over `cells` (default: all)."""
        index = self.policies.index(policy)
        return self._estimate(cells, lambda logs: log_over_best(logs, index, self._candidates, CROSS_FITTED))

    def over(self, policy: str, other: str, cells: Sequence[Cell] | None = None) -> Estimate:
        """One policy over another: geometric mean over `cells` (default: all)."""
        a, b = self.policies.index(policy), self.policies.index(other)
        return self._estimate(cells, lambda logs: (logs[a] - logs[b]).mean(axis=-1))

    def chosen(self, cell: Cell) -> tuple[str, str]:
        """The best by the odd repeats, and by the even ones."""
        odd, even = (_choose(self._measured[cell], self._candidates, half)[0] for half in (ODD, EVEN))
        return self.policies[odd], self.policies[even]

    def _estimate(self, cells: Sequence[Cell] | None, log_ratio: Callable[[Logs], Logs]) -> Estimate:
        of = cells or self.cells
        value = np.mean([log_ratio(self._measured[cell]) for cell in of])
        resampled = np.mean([log_ratio(self._resampled[cell]) for cell in of], axis=0)
        low, high = np.exp(np.percentile(resampled, _PERCENTILES))
        return Estimate(float(np.exp(value)), float(low), float(high))


def log_over_best(logs: Logs, policy: int, candidates: NDArray[np.intp], folds: Sequence[Fold]) -> Logs:
    """Logarithm of a policy's ratio to the best of the candidates in each sample, mean over folds.

    `logs` has shape (policies, samples, repeats), the result (samples,).
    """
    samples = np.arange(logs.shape[1])
    parts = []
    for chosen_on, compared_on in folds:
        best = logs[_choose(logs, candidates, chosen_on), samples]
        parts.append((logs[policy] - best)[:, compared_on].mean(axis=-1))
    return np.asarray(np.mean(parts, axis=0))


def _choose(logs: Logs, candidates: NDArray[np.intp], repeats: slice) -> NDArray[np.intp]:
    """Index of the fastest candidate in each sample, judged by some of the repeats."""
    return np.asarray(candidates[logs[candidates][:, :, repeats].mean(axis=-1).argmax(axis=0)])


def _logs(speeds: Mapping[str, Sequence[float]], policies: Sequence[str]) -> Logs:
    """Shape (policies, 1, repeats)."""
    rows = [list(speeds[policy]) for policy in policies] if set(speeds) == set(policies) else []
    repeats = len(rows[0]) if rows else 0
    if repeats < MIN_REPEATS or any(len(row) != repeats or min(row) <= 0 for row in rows):
        raise ValueError("every cell needs the same policies, with as many positive speeds, four or more")
    return np.asarray(np.log(rows))[:, np.newaxis]


def _resampled(logs: Logs, draw: np.random.Generator) -> Logs:
    """Shape (policies, 1, repeats) to (policies, RESAMPLES, repeats - 2), halves where they were."""
    repeats = logs.shape[2]
    index = np.empty((RESAMPLES, repeats - 2), dtype=np.intp)
    for half in (ODD, EVEN):
        index[:, half] = draw.choice(np.arange(repeats)[half], size=index[:, half].shape)
    return np.asarray(logs[:, 0, index])
