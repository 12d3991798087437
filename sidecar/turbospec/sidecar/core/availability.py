"""Whether the drafter proposes anything at all when it is asked to.

Drafters that look for a match (n-gram, suffix) often have none; model drafters always propose.
"""

from __future__ import annotations

import numpy as np
from turbospec.sidecar.core.clocks import decay
from turbospec.sidecar.core.types import FloatArray, IntArray

# Matches come in runs, as acceptance does: see acceptance.py for both half-lives.
REQUEST_HALF_LIFE_STEPS = 16.0
POOLED_HALF_LIFE_STEPS = 400.0
# In asked steps. Weak for all requests, so that a drafter without gaps counts as one at once; a request
# is believed after a handful of steps.
POOLED_PRIOR_WEIGHT = 1.0
REQUEST_PRIOR_WEIGHT = 4.0


class AvailabilityEstimator:
    """P(any draft proposed | asked), over all requests and by slot."""

    def __init__(self, capacity: int = 64) -> None:
        self._pooled_asked = POOLED_PRIOR_WEIGHT
        self._pooled_proposed = POOLED_PRIOR_WEIGHT
        self._asked = np.zeros(capacity)
        self._proposed = np.zeros(capacity)

    def open(self, slot: int) -> None:
        """Starts a request from what is known of all."""
        if slot >= self._asked.size:
            extra = max(slot + 1, 2 * self._asked.size) - self._asked.size
            self._asked = np.append(self._asked, np.zeros(extra))
            self._proposed = np.append(self._proposed, np.zeros(extra))
        self._asked[slot] = self._proposed[slot] = 0.0

    def observe(self, slots: IntArray, proposed: IntArray) -> None:
        """Learns from one step in which each of `slots` had been asked for drafts; shapes (n,)."""
        if not slots.size:
            return
        got = (proposed > 0).astype(np.float64)
        keep = decay(REQUEST_HALF_LIFE_STEPS)
        self._asked[slots] = keep * self._asked[slots] + 1.0
        self._proposed[slots] = keep * self._proposed[slots] + got
        keep = decay(POOLED_HALF_LIFE_STEPS)
        self._pooled_asked = keep * self._pooled_asked + got.size
        self._pooled_proposed = keep * self._pooled_proposed + float(got.sum())

    @property
    def pooled(self) -> float:
        """Over all requests."""
        return self._pooled_proposed / self._pooled_asked

    def of(self, slots: IntArray) -> FloatArray:
        """By request, shape (n,)."""
        prior = REQUEST_PRIOR_WEIGHT * self.pooled
        return (self._proposed[slots] + prior) / (self._asked[slots] + REQUEST_PRIOR_WEIGHT)
