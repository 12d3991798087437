"""Rejection hazards by draft position over all requests, on a fast and a slow clock."""

from __future__ import annotations

import math

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


def decay(half_life: float) -> float:
    """The factor per step that halves a weight in `half_life` steps."""
    return float(0.5 ** (1.0 / half_life))


class _Clock:
    """Forgetful counts by position, each of shape (K,)."""

    def __init__(self, max_length: int, half_life: float) -> None:
        self._keep = decay(half_life)
        self.tests = np.zeros(max_length)
        self.exposure = np.zeros(max_length)
        self.rejections = np.zeros(max_length)

    def add(self, tests: FloatArray, exposure: FloatArray, rejections: FloatArray, steps: int) -> None:
        keep = self._keep**steps
        self.tests = keep * self.tests + tests
        self.exposure = keep * self.exposure + exposure
        self.rejections = keep * self.rejections + rejections

    def discount(self, factor: float) -> None:
        self.tests = factor * self.tests
        self.exposure = factor * self.exposure
        self.rejections = factor * self.rejections

    def take_over(self, other: _Clock) -> None:
        self.tests, self.exposure, self.rejections = other.tests, other.exposure, other.rejections

    def hazard_of_rejection(self) -> FloatArray:
        rates = []
        before, weight = PRIOR_REJECTION, PRIOR_WEIGHT
        for rejected, exposed in zip(self.rejections.tolist(), self.exposure.tolist(), strict=True):
            before = min(1.0, (rejected + weight * before) / (exposed + weight))
            rates.append(before)
            weight = NEIGHBOUR_WEIGHT
        return np.array(rates)


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
        return self._slow.tests.copy()

    def observe(self, depth: IntArray, rejected: IntArray, frailty: FloatArray, steps: int) -> None:
        """Adds tests; all arguments have shape (m,), one entry per request that was tested.

        Positions 1..`depth` were tested; position `rejected` failed (0: none did).
        """
        width = self._max_length + 1
        tests = _at_least(np.bincount(depth, minlength=width))
        exposure = _at_least(np.bincount(depth, weights=frailty, minlength=width))
        rejections = np.bincount(rejected, minlength=width)[1:].astype(np.float64)
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
        self.rejection = self._slow.hazard_of_rejection()
        self._cumulated = np.zeros(self._max_length + 1)
        self.rejection.cumsum(out=self._cumulated[1:])

    def _clocks_disagree(self) -> bool:
        # Plain rates on both sides, so that a steady selection of whom to test cancels.
        rate = (self._slow.rejections + PRIOR_WEIGHT * PRIOR_REJECTION) / (self._slow.tests + PRIOR_WEIGHT)
        expected = float(self._fast.tests @ rate)
        variance = float(self._fast.tests @ (rate * (1.0 - rate)))
        seen = float(self._fast.rejections.sum())
        if abs(seen - expected) <= DRIFT_SIGMAS * math.sqrt(variance + 1.0):
            return False
        return seen > DRIFT_RATIO * expected or expected > DRIFT_RATIO * seen


def _at_least(histogram: IntArray | FloatArray) -> FloatArray:
    """Turns counts by depth 0..K into the number at or above each of the positions 1..K."""
    return histogram[::-1].cumsum(dtype=np.float64)[::-1][1:]
