"""Rejection hazards by draft position over all requests, on a fast and a slow clock."""

from __future__ import annotations

import math
from itertools import accumulate
from operator import mul
from typing import TypeVar

import numpy as np
from turbospec.sidecar.core.types import FloatArray, IntArray

# Forgetting counts drafted steps. Slow: about 600 effective steps bring the error of a hazard below 0.02
# even at one request, where a further step is worth less than 1% of goodput; that is seconds to a minute.
SLOW_HALF_LIFE_STEPS = 400.0
# Fast: enough for a test at one request, and short enough to show a shift of traffic within seconds.
FAST_HALF_LIFE_STEPS = 40.0
# The clocks are compared at every step, so chance alone must be rare: 4 sigma on the conservative side
# (the variance ignores that forgetting averages), and a change that is worth reacting to.
DRIFT_SIGMAS = 4.0
DRIFT_RATIO = 1.25
# At that moment the fast clock still holds much from before the shift; what comes now must outweigh it.
DRIFT_KEEP = 0.25
# Before anything was tested: a middling drafter, worth so little that ten tests overrule it.
PRIOR_REJECTION = 0.4
PRIOR_WEIGHT = 2.0
# A position leans on the one before it until it was tested a few times: hazards change slowly by position.
NEIGHBOUR_WEIGHT = 4.0

_Count = TypeVar("_Count", int, float)


def decay(half_life: float) -> float:
    """The factor per step that halves a weight in `half_life` steps."""
    return float(0.5 ** (1.0 / half_life))


class _Clock:
    """Forgetful counts by position. Plain lists: there are few positions, and numpy costs more for each."""

    def __init__(self, max_length: int, half_life: float) -> None:
        self._keep = decay(half_life)
        self.tests = [0.0] * max_length
        self.exposure = [0.0] * max_length
        self.rejections = [0.0] * max_length

    def add(self, tests: list[int], exposure: list[float], rejections: list[int], steps: int) -> None:
        keep = self._keep**steps
        self.tests = [keep * old + new for old, new in zip(self.tests, tests, strict=True)]
        self.exposure = [keep * old + new for old, new in zip(self.exposure, exposure, strict=True)]
        self.rejections = [keep * old + new for old, new in zip(self.rejections, rejections, strict=True)]

    def discount(self, factor: float) -> None:
        self.tests = [factor * each for each in self.tests]
        self.exposure = [factor * each for each in self.exposure]
        self.rejections = [factor * each for each in self.rejections]

    def take_over(self, other: _Clock) -> None:
        self.tests, self.exposure, self.rejections = other.tests, other.exposure, other.rejections

    def hazards_of_rejection(self) -> list[float]:
        rates = []
        before, weight = PRIOR_REJECTION, PRIOR_WEIGHT
        for rejected, exposed in zip(self.rejections, self.exposure, strict=True):
            before = min(1.0, (rejected + weight * before) / (exposed + weight))
            rates.append(before)
            weight = NEIGHBOUR_WEIGHT
        return rates


class PooledHazards:
    """P(draft j rejected | drafts before it accepted) for the average request.

    Only promising requests are tested deep (they are allowed to be), so a plain rate per position would
    be biased for everyone else. Each test therefore counts as the *relative frailty* of its request, its
    rejection rate over that of the batch: a position tested on requests that are rejected half as often
    as others has seen half the exposure (indirect standardisation). Within a step the frailties average
    1, so a shift common to all requests goes to the hazards and not to the requests.

    Untested positions take the value of the position before them.
    """

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._slow = _Clock(max_length, SLOW_HALF_LIFE_STEPS)
        self._fast = _Clock(max_length, FAST_HALF_LIFE_STEPS)
        self.drifts = 0
        self._refresh()

    @property
    def evidence(self) -> FloatArray:
        """Effective number of tests by position, shape (K,)."""
        return np.array(self._slow.tests)

    def observe(self, depth: IntArray, rejected: IntArray, frailty: FloatArray, steps: int) -> None:
        """Adds tests; all arguments have shape (m,), one entry per request.

        Positions 1..`depth` were tested (0: none was); position `rejected` failed (0: none did).
        """
        width = self._max_length + 1
        tests = _at_least(np.bincount(depth, minlength=width).tolist())
        exposure = _at_least(np.bincount(depth, weights=frailty, minlength=width).tolist())
        rejections = np.bincount(rejected, minlength=width)[1:].tolist()
        self._fast.add(tests, exposure, rejections, steps)
        self._slow.add(tests, exposure, rejections, steps)
        if self._clocks_disagree():
            self._fast.discount(DRIFT_KEEP)
            self._slow.take_over(self._fast)
            self.drifts += 1
        self._refresh()

    def expected_rejections(self, depth: IntArray) -> FloatArray:
        """Rejections that the average request would have had when tested to `depth`, same shape."""
        return self._cumulated[depth]

    def _refresh(self) -> None:
        rejection = self._slow.hazards_of_rejection()
        self.rejection = np.array(rejection)
        """P(draft j rejected | drafts before it accepted), shape (K,)."""
        self.survivals = np.array(list(accumulate((1.0 - each for each in rejection), mul)))
        """P(the first j drafts are all accepted), shape (K,)."""
        self._cumulated = np.array([0.0, *accumulate(rejection)])

    def _clocks_disagree(self) -> bool:
        # Plain rates on both sides, so that a steady selection of whom to test cancels.
        expected = variance = 0.0
        counts = zip(self._slow.rejections, self._slow.tests, self._fast.tests, strict=True)
        for rejections, tests, newly_tested in counts:
            rate = (rejections + PRIOR_WEIGHT * PRIOR_REJECTION) / (tests + PRIOR_WEIGHT)
            expected += newly_tested * rate
            variance += newly_tested * (rate * (1.0 - rate))
        seen = sum(self._fast.rejections)
        if abs(seen - expected) <= DRIFT_SIGMAS * math.sqrt(variance + 1.0):
            return False
        return seen > DRIFT_RATIO * expected or expected > DRIFT_RATIO * seen


def _at_least(histogram: list[_Count]) -> list[_Count]:
    """Turns counts by depth 0..K into the number at or above each of the positions 1..K."""
    return list(accumulate(histogram[:0:-1]))[::-1]
