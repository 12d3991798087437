"""What only counting over time can tell: totals of one engine, for rates and averages over any window."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

import numpy as np
from turbospec.sidecar.core.types import Decision, IntArray, Observation, Reason
from turbospec.sidecar.server.limits import LONGEST_PROPOSAL

# Upper bounds in seconds. A decision takes tenths of a millisecond; taking as long as a step is too long.
DECISION_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)


class Tally:
    """Totals since the controller has known the engine; reconnecting does not reset them.

    `proposals`: steps by proposal length; `verified` and `accepted`: how often a request had so many drafts
    verified and accepted in a step; all of shape (LONGEST_PROPOSAL + 1,). `decisions`: plans by the bound
    that their decision's time is within, and last those above all bounds.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.step_seconds = 0.0
        self.emitted_tokens = 0
        self.proposals: IntArray = np.zeros(LONGEST_PROPOSAL + 1, np.int64)
        self.verified: IntArray = np.zeros(LONGEST_PROPOSAL + 1, np.int64)
        self.accepted: IntArray = np.zeros(LONGEST_PROPOSAL + 1, np.int64)
        self.plans: Counter[Reason] = Counter()
        self.decisions = [0] * (len(DECISION_BOUNDS) + 1)
        self.decision_seconds = 0.0

    def add_report(self, observation: Observation) -> None:
        """One report. Of coalesced steps only the last one's proposal length is known: it counts for all."""
        self.steps += observation.steps
        self.step_seconds += observation.duration or 0.0
        self.emitted_tokens += observation.emitted_tokens
        self.proposals[observation.proposal_length] += observation.steps
        if observation.slots.size:
            for total, lengths in (
                (self.verified, observation.verified),
                (self.accepted, observation.accepted),
            ):
                counts = np.bincount(lengths)
                total[: counts.size] += counts

    def add_plan(self, decision: Decision, seconds: float) -> None:
        """One plan, and the time that its decision took."""
        self.plans[decision.reason] += 1
        self.decisions[bisect_left(DECISION_BOUNDS, seconds)] += 1
        self.decision_seconds += seconds
