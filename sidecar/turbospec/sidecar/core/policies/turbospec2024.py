"""TurboSpec as published (Liu et al., arXiv 2406.14066): the baseline to beat.

One acceptance rate a for everyone, a geometric curve E = (1 - a^(k+1)) / (1 - a), the best uniform k.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from turbospec.sidecar.core.optimizer import uniform
from turbospec.sidecar.core.policies.base import Lengths, View
from turbospec.sidecar.core.types import Candidate, Observation, Reason

WINDOW_DRAFTED_TOKENS = 10_000
DECISION_INTERVAL_STEPS = 200
PROBE_INTERVAL_STEPS = 50
# One step's drafts are proposed in one step and verified in the next.
PROBE_STEPS = 2


class TurboSpec2024Policy:
    """Re-decides a uniform length every 200 steps; at length 0 probes length 1 every 50."""

    spec = "turbospec-2024"

    def __init__(self) -> None:
        # (drafted, accepted) per step. Drafted means verified: what was trimmed could not be accepted.
        self._window: deque[tuple[int, int]] = deque()
        self._drafted = 0
        self._accepted = 0
        self._steps = 0
        self._length: int | None = None
        self._decided_at = 0
        self._candidates: tuple[Candidate, ...] = ()

    def observe(self, observation: Observation, *, timed: bool) -> None:  # noqa: ARG002 - the contract's
        """Adds to the window of drafted tokens."""
        self._steps += observation.steps
        drafted, accepted = int(observation.verified.sum()), int(observation.accepted.sum())
        if not drafted:
            return
        self._window.append((drafted, accepted))
        self._drafted += drafted
        self._accepted += accepted
        while self._drafted - self._window[0][0] >= WINDOW_DRAFTED_TOKENS:
            old_drafted, old_accepted = self._window.popleft()
            self._drafted -= old_drafted
            self._accepted -= old_accepted

    def decide(self, view: View) -> Lengths:
        """The length of the last decision, or of a probe."""
        if self._length is None:
            self._length = view.capabilities.static_length
        if self._steps - self._decided_at >= DECISION_INTERVAL_STEPS and self._drafted and view.latency.ready:
            self._length = self._best(view)
            self._decided_at = self._steps
        if self._length == 0 and self._steps % PROBE_INTERVAL_STEPS < PROBE_STEPS:
            length, reason = 1, Reason.PROBE
        elif self._candidates:
            length = self._length
            reason = Reason.BEST_GOODPUT if length else Reason.DOES_NOT_PAY
        else:
            length, reason = self._length, Reason.LEARNING
        rate = f"{self._accepted} of {self._drafted} drafted tokens accepted"
        chosen = next((c for c in self._candidates if c.chosen), None)
        return Lengths(
            proposal_length=length,
            verification=np.full(view.requests, length),
            floor=0.0,
            reason=reason,
            explanation=f"policy {self.spec}: uniform length {length}, {rate}",
            predicted_goodput=chosen.goodput if chosen else None,
            predicted_step_seconds=chosen.step_seconds if chosen else None,
            candidates=self._candidates,
        )

    def _best(self, view: View) -> int:
        rate = self._accepted / self._drafted
        n = view.requests
        candidates = []
        for k in view.proposals:
            seconds = uniform(view.batch, k, k, view.cost).step_seconds
            tokens = n * sum(rate**j for j in range(k + 1))
            candidates.append(Candidate(k, n * k, tokens, seconds, tokens / seconds))
        winner = max(candidates, key=lambda c: c.goodput)
        self._candidates = tuple(c._replace(chosen=c is winner) for c in candidates)
        return winner.proposal_length
