"""How likely drafts are to be accepted: for all requests, a traffic class, and each request.

A position is *tested* only if it was verified and all drafts before it were accepted. What lies behind a
rejection, or beyond the verification length, is censored: it says nothing.

Requests differ by one number, the frailty f: P(i rejected at j) = f_i * P(rejected at j). It is the
gamma-Poisson estimate (R + a * f_class) / (E + a), with R the request's recent rejections, E what the
average request would have had in the same tests, and 1/a the variance of frailty between requests. The
variance is learned as the covariance of a request's past excess with its next one: noise is not
persistent and cancels, so where requests do not differ they are all treated alike.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import numpy as np
from turbospec.sidecar.core.clocks import PooledHazards, decay
from turbospec.sidecar.core.types import BoolArray, FloatArray, IntArray

# What a request did in its last steps predicts it best (copying comes in runs). Counted in steps that it
# decoded, tested or not: a request that was cut off is looked at again when its evidence has faded.
REQUEST_HALF_LIFE_STEPS = 16.0
_KEEP = decay(REQUEST_HALF_LIFE_STEPS)
CLASS_HALF_LIFE_STEPS = 400.0
VARIANCE_HALF_LIFE_STEPS = 400.0
# Until requests have shown how much they differ: somewhat (a standard deviation of 0.45).
PRIOR_VARIANCE = 0.2
PRIOR_VARIANCE_WEIGHT = 5.0
MIN_VARIANCE, MAX_VARIANCE = 1e-3, 2.0
# Labels come from callers; beyond this many, the longest unused is forgotten.
MAX_CLASSES = 64


class AcceptanceEstimator:
    """Acceptance by position for slots 0..capacity-1, K = `max_length` positions."""

    def __init__(self, max_length: int, capacity: int = 64) -> None:
        self._max_length = max_length
        self._positions = np.arange(1, max_length + 1)
        self.pooled = PooledHazards(max_length)
        self._rejections = np.zeros(capacity)
        self._expected = np.zeros(capacity)
        self._tests = np.zeros((capacity, max_length))
        self._class_of = np.full(capacity, -1, dtype=np.int64)
        self._class_rejections = np.zeros(MAX_CLASSES)
        self._class_expected = np.zeros(MAX_CLASSES)
        self._class_index: OrderedDict[str, int] = OrderedDict()
        self._covariance = 0.0
        self._exposure_product = 0.0

    def open(self, slot: int, label: str) -> None:
        """Starts a request from its class, or from all requests where it has no label."""
        self._grow(slot)
        self._rejections[slot] = self._expected[slot] = 0.0
        self._tests[slot] = 0.0
        self._class_of[slot] = self._class(label) if label else -1

    def observe(self, slots: IntArray, verified: IntArray, accepted: IntArray, steps: int) -> None:
        """Learns from one step (or `steps`, with slots repeated); arrays of shape (n,)."""
        if not np.count_nonzero(verified):
            self._fade(slots if steps == 1 else np.unique(slots))
            return
        # Of requests that were not tested all of these are 0: they only fade.
        depth = np.minimum(verified, accepted + 1)
        rejected = accepted < verified
        expected = self.pooled.expected_rejections(depth)
        frailty = self.frailty(slots)
        tested = depth > 0
        self._learn_variance(slots[tested], (rejected - expected)[tested], expected[tested], steps)
        if self._class_index:
            self._learn_classes(slots[tested], rejected[tested], expected[tested], steps)
        self.pooled.observe(depth, depth * rejected, frailty / (frailty.sum() / frailty.size), steps)
        tests = self._positions <= depth[:, None]
        counts = ((self._rejections, rejected), (self._expected, expected), (self._tests, tests))
        if steps == 1:
            # Every slot is named once.
            for totals, new in counts:
                totals[slots] = _KEEP * totals.take(slots, axis=0) + new
        else:
            self._fade(np.unique(slots))
            for totals, new in counts:
                np.add.at(totals, slots, new)

    def frailty(self, slots: IntArray) -> FloatArray:
        """Rejection rate of each slot's request relative to the average request, shape (n,)."""
        strength = 1.0 / self.variance
        prior = self._class_frailty(strength)[self._class_of[slots]] if self._class_index else 1.0
        return (self._rejections[slots] + strength * prior) / (self._expected[slots] + strength)

    def survivals(self, slots: IntArray) -> FloatArray:
        """P(the first j drafts are all accepted) given that there are drafts, shape (n, K)."""
        rejection = self.pooled.rejection[:, None] * self.frailty(slots)
        survivals: FloatArray = 1.0 - np.minimum(rejection, 1.0)
        # numpy multiplies long rows fast, and cumulates slowly.
        for before, here in pairwise(survivals):
            np.multiply(before, here, out=here)
        return survivals.T

    def prior_survivals(self) -> FloatArray:
        """The same for a request of which nothing is known, shape (K,)."""
        return self.pooled.survivals

    def hazards(self, slot: int | None = None) -> FloatArray:
        """P(draft j accepted | drafts before it accepted) of one request or of all, shape (K,)."""
        frailty = 1.0 if slot is None else float(self.frailty(np.array([slot]))[0])
        hazards: FloatArray = np.maximum(1.0 - frailty * self.pooled.rejection, 0.0)
        return hazards

    def evidence(self, slot: int) -> FloatArray:
        """Effective number of tests of one request by position, shape (K,)."""
        return np.array(self._tests[slot])

    @property
    def variance(self) -> float:
        """Variance of frailty between requests; near 0 where they are all alike."""
        # The prior is not forgotten: after a long time without evidence it is all that is left.
        covariance = self._covariance + PRIOR_VARIANCE * PRIOR_VARIANCE_WEIGHT
        variance = covariance / (self._exposure_product + PRIOR_VARIANCE_WEIGHT)
        return min(max(variance, MIN_VARIANCE), MAX_VARIANCE)

    def _learn_variance(self, who: IntArray, excess: FloatArray, expected: FloatArray, steps: int) -> None:
        keep = decay(VARIANCE_HALF_LIFE_STEPS) ** steps
        past_excess = self._rejections[who] - self._expected[who]
        self._covariance = keep * self._covariance + float(excess @ past_excess)
        self._exposure_product = keep * self._exposure_product + float(expected @ self._expected[who])

    def _learn_classes(self, who: IntArray, rejected: BoolArray, expected: FloatArray, steps: int) -> None:
        classes = self._class_of[who]
        labelled = classes >= 0
        if not labelled.any():
            return
        touched = np.unique(classes[labelled])
        keep = decay(CLASS_HALF_LIFE_STEPS) ** steps
        self._class_rejections[touched] *= keep
        self._class_expected[touched] *= keep
        np.add.at(self._class_rejections, classes[labelled], rejected[labelled])
        np.add.at(self._class_expected, classes[labelled], expected[labelled])

    def _class_frailty(self, strength: float) -> FloatArray:
        """By class index, shape (MAX_CLASSES + 1,); the last entry, index -1, is "no class"."""
        rates = (self._class_rejections + strength) / (self._class_expected + strength)
        return np.append(rates, 1.0)

    def _class(self, label: str) -> int:
        if label not in self._class_index:
            if len(self._class_index) == MAX_CLASSES:
                _, index = self._class_index.popitem(last=False)
                # Requests of the forgotten class must not become members of the new one.
                self._class_of[self._class_of == index] = -1
            else:
                index = len(self._class_index)
            self._class_rejections[index] = self._class_expected[index] = 0.0
            self._class_index[label] = index
        self._class_index.move_to_end(label)
        return self._class_index[label]

    def _fade(self, slots: IntArray) -> None:
        for totals in (self._rejections, self._expected, self._tests):
            totals[slots] *= _KEEP

    def _grow(self, slot: int) -> None:
        if slot >= self._class_of.size:
            extra = max(slot + 1, 2 * self._class_of.size) - self._class_of.size
            self._rejections = np.append(self._rejections, np.zeros(extra))
            self._expected = np.append(self._expected, np.zeros(extra))
            self._tests = np.append(self._tests, np.zeros((extra, self._max_length)), axis=0)
            self._class_of = np.append(self._class_of, np.full(extra, -1, dtype=np.int64))
