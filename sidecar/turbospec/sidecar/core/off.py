"""When to skip the drafter altogether, when to come back, and when to look whether coming back would pay.

At length 0 most engines still run a draft pass, to keep the draft's KV cache current. Skipping it saves
that, but the requests that run meanwhile get a gap in that cache and cannot speculate any more: a switch has
a price, paid in speculation forgone until they are replaced. So neither state is left for a prediction of
one moment. What the other state would have gained adds up, and the state changes when the sum exceeds the
price: the ski-rental rule, which never loses more than twice what hindsight would.

In two cases it does not wait. The first time that off is hoped to pay, with so many requests, it is tried at
once: what it is worth is not known better by waiting, and it costs the requests that run just then their
speculation, once. And where, with about as many requests, a state has paid for a switch the last time, it is
taken to do so again: loads come back, and stay for as long as they did.
"""

from __future__ import annotations

from enum import Enum

from turbospec.sidecar.core.exploration import PROBE_TIME_RATIO

# The price of a switch, in seconds of forgone goodput. At a drafter of 10% of a step it takes 1.5 seconds of
# no speculation to skip it; where a fallen load promises twice the goodput, a fifth of a second to come back.
SWITCH_SECONDS = 0.2
# Speculation has to be predicted to gain this share over off. It is the best of several lengths, and the best
# of several estimates with errors is on average overestimated; off is one. Where the two are equal, off is
# also what costs nobody anything.
LEAST_GAIN = 0.04
# A look has to wait for requests that enter while the drafter runs. It is worth starting with the budget for
# this many steps; it lasts for as long as the budget does.
LOOK_STEPS = 64


class Drafting(Enum):
    """What becomes of the drafter."""

    ON = "on"
    OFF = "off"
    LOOKING = "looking"
    """Off, but for a while it runs, so that requests enter that can speculate."""


class OffSwitch:
    """The state, from predictions and the time that passes."""

    def __init__(self) -> None:
        self.state = Drafting.ON
        self._elapsed = 0.0
        # What the other state would have gained, in seconds; never below 0.
        self._regret = 0.0
        # Seconds of goodput: earned while off, spent on looks.
        self._budget = 0.0
        # Batch sizes, by octave, at which either state was the last one to pay for the switch to it.
        self._paid: dict[Drafting, set[int]] = {Drafting.ON: set(), Drafting.OFF: set()}
        # Since the last switch: the seconds gained at each batch size, and that at which it was made.
        self._gained: dict[int, float] = {}
        self._size: int | None = None

    def spend(self, seconds: float) -> None:
        """Steps of `seconds` were seen."""
        self._elapsed += seconds

    def consider(
        self,
        *,
        speculating: float,
        looking: float,
        off: float,
        step_seconds: float,
        tried: bool,
        size: int,
    ) -> Drafting:
        """The state from now on. Goodputs are predictions in tokens/s, above 0.

        `speculating`: of the best lengths if every request could speculate; `off`: without the drafter, and
        `tried`: whether that rests on measurement; `looking`: of what a look does now. `step_seconds`: of one
        step without the drafter. `size`: the octave of the batch size.
        """
        elapsed, self._elapsed = self._elapsed, 0.0
        if speculating < (1.0 + LEAST_GAIN) * off:
            speculating /= 1.0 + LEAST_GAIN
        on = self.state is Drafting.ON
        now, other, there = (
            (Drafting.ON, Drafting.OFF, off / speculating)
            if on
            else (Drafting.OFF, Drafting.ON, speculating / off)
        )
        self._regret = max(0.0, self._regret + (there - 1.0) * elapsed)
        self._gained[size] = gained = self._gained.get(size, 0.0) + (1.0 / there - 1.0) * elapsed
        if gained >= SWITCH_SECONDS:
            self._paid[now].add(size)
            self._paid[other].discard(size)
        known = size in self._paid[other] or (on and not tried)
        if self._regret > SWITCH_SECONDS or (there > 1.0 and known):
            self._switch(now, other, size)
        elif not on:
            self._pace(elapsed, max(1.0 - looking / off, 0.0), step_seconds)
        return self.state

    def _switch(self, now: Drafting, other: Drafting, size: int) -> None:
        if self._size is not None and self._gained.get(self._size, 0.0) < SWITCH_SECONDS:
            self._paid[now].discard(self._size)
        self.state = other
        self._regret = self._budget = 0.0
        self._gained.clear()
        self._size = size

    def _pace(self, elapsed: float, lost_share: float, step_seconds: float) -> None:
        """Starts and ends looks within their budget. `lost_share`: of the goodput, while looking."""
        self._budget += PROBE_TIME_RATIO * elapsed
        price = LOOK_STEPS * step_seconds * lost_share
        if self.state is Drafting.LOOKING:
            self._budget -= lost_share * elapsed
            if self._budget <= 0.0:
                self.state = Drafting.OFF
        elif self._budget >= price:
            # What a look would have cost less earlier is not saved for a longer one now.
            self._budget = price
            self.state = Drafting.LOOKING
