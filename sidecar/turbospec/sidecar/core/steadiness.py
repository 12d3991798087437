"""How many steps one report may hold.

Reports and plans are not free: in the engine's process they take CPU time beside the model's. While something
is learned or tried, and while lengths change, each step is reported at once. Where the same decision was made
again and again, a few steps later is soon enough; and while the drafter is skipped, some more.
"""

from __future__ import annotations

import numpy as np
from turbospec.sidecar.core.types import Decision, Reason

# So many times the same decision, and it is not expected to change with the next report either: probes and
# requests that come and go are rarer than that.
STEADY_DECISIONS = 16
# Lengths that have become wrong are used for this much longer.
STEADY_STEPS = 4
# Without drafts there is nothing to be wrong about but whether to return to them, which takes seconds. The
# machine's speed is told from the newest 24 reports, though (`speed.WINDOW`): a shift is followed for sure
# once all of them came after it, which with eight steps in each is within 200.
OFF_STEPS = 8

_SETTLED = {Reason.FIXED, Reason.BEST_GOODPUT, Reason.DOES_NOT_PAY, Reason.CALLER_OFF}


class Steadiness:
    """Follows decisions."""

    def __init__(self) -> None:
        self._newest: Decision | None = None
        self._repeats = 0

    def observe(self, steps: int, *, timed: bool) -> None:
        """Takes a report of so many steps. `timed`: the cost model learned from it."""
        if steps > 1 and not timed:
            # Of steps that were not alike no time is learned, so that some come one by one in between.
            self._repeats = min(self._repeats, STEADY_DECISIONS - STEADY_STEPS - 1)

    def report_steps(self, decision: Decision, *, off_known: bool) -> int:
        """Takes the next decision. `off_known`: what steps without the drafter take was measured."""
        newest, self._newest = self._newest, decision
        self._repeats = self._repeats + 1 if newest is not None and _same(newest, decision) else 0
        if decision.skip_drafter and off_known:
            return OFF_STEPS
        settled = decision.reason in _SETTLED and self._repeats >= STEADY_DECISIONS
        return STEADY_STEPS if settled else 1


def _same(one: Decision, other: Decision) -> bool:
    """Whether they ask for the same of the same requests."""
    return (
        one.proposal_length == other.proposal_length
        and one.skip_drafter == other.skip_drafter
        and one.reason is other.reason
        and np.array_equal(one.slots, other.slots)
        and np.array_equal(one.verification_lengths, other.verification_lengths)
    )
