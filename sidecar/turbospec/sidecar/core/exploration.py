"""Looking at lengths that are not believed to be best: first to learn, then within a budget.

Both look with the whole batch, since one request with a width of its own could cost the batch its
captured graph, and since more requests teach more for the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from turbospec.sidecar.core.optimizer import Option

# The design's bound on step time spent on probes.
PROBE_TIME_RATIO = 0.01
# Drafts proposed in one step are verified in the next, so a look takes two.
PROBE_STEPS = 2
# What was not spent may be saved up for this many probes, no more: no burst after a quiet hour.
MAX_SAVED_PROBES = 2.0
# A neighbour predicted to be this much worse would have to be badly mispredicted to matter, and it would
# be looked at again as soon as the load or the acceptance brings the two closer.
HOPELESS_GAP = 0.3

# Each learning length is held this long: one step of transition and two clean ones, enough for a median.
LEARNING_HOLD_STEPS = 3
# Lengths predicted to be this close to the best are held for longer: between these, and only these, an error
# of some percent in their cost or their acceptance decides. Requests teach acceptance, each step cost.
CONTESTED_GAP = 0.1
CONTESTED_HOLD_STEPS = 8
CONTESTED_HOLD_REQUESTS = 24
# Steps whose time is disturbed (prompts) teach nothing of it: a length that gets no timed step within this
# many times its share is given up.
PATIENCE = 3


def learning_lengths(candidates: tuple[int, ...], static_length: int) -> tuple[int, ...]:
    """Distinct lengths that identify the costs of tokens and draft passes, cheap ones first."""
    wanted = (1, 0, max(static_length // 2, 1), max(candidates), 0, min(2, max(candidates)))
    nearest = [min(candidates, key=lambda c: (abs(c - length), c)) for length in wanted]
    return tuple(nearest)


class LearningSchedule:
    """A short walk over the lengths when little is known of them.

    `steps_at` says of how many steps of a length the time is known already: enough, and it is left out.
    """

    def __init__(
        self, candidates: tuple[int, ...], static_length: int, steps_at: Callable[[int], int]
    ) -> None:
        self._steps_at = steps_at
        # Length and how many timed steps it is held.
        self._plan = [
            (length, LEARNING_HOLD_STEPS)
            for length in learning_lengths(candidates, static_length)
            if steps_at(length) < LEARNING_HOLD_STEPS
        ]
        self._contested = False
        self._held = self._timed = 0

    @property
    def done(self) -> bool:
        """Whether there is no length to look at now."""
        return not self._plan

    @property
    def walked(self) -> bool:
        """Whether the walk is over, and `contest` not called yet."""
        return not self._plan and not self._contested

    @property
    def length(self) -> int:
        """The length to use now; only while not `done`."""
        return self._plan[0][0]

    def contest(self, goodputs: Mapping[int, float], requests: int, *, off: float = 0.0) -> None:
        """After the walk: adds the lengths that come close to the best one, and to `off`.

        `goodputs`: predicted, by length, with so many `requests`; `off`: without the drafter, 0 where it
        cannot be skipped. The best length itself is used from now on, and so learned anyway.
        """
        self._contested = True
        hold = max(CONTESTED_HOLD_STEPS, CONTESTED_HOLD_REQUESTS // requests)
        best = max(goodputs, key=goodputs.__getitem__)
        least = (1.0 - CONTESTED_GAP) * max(goodputs[best], off)
        for length, goodput in goodputs.items():
            missing = hold - self._steps_at(length)
            if length != best and goodput >= least and missing > 0:
                self._plan.append((length, missing))

    def advance(self, *, timed: bool) -> None:
        """One step was seen; `timed`: its duration could be learned from."""
        if self.done:
            return
        self._held += 1
        self._timed += timed
        share = self._plan[0][1]
        if self._timed >= share or self._held >= PATIENCE * share:
            self.skip()

    def skip(self) -> None:
        """Goes on to the next length."""
        del self._plan[0]
        self._held = self._timed = 0


class ProbeBudget:
    """Decides when to look at a neighbour of the best length, and at which."""

    def __init__(self) -> None:
        self._saved_seconds = 0.0
        self._running: int | None = None
        self._left = 0
        self._look_up = True

    @property
    def running(self) -> int | None:
        """The length of the probe under way, if any."""
        return self._running

    def spend(self, seconds: float, steps: int = 1) -> None:
        """`steps` of `seconds` in all were seen: they earn budget, and pay for the probe under way."""
        self._saved_seconds += PROBE_TIME_RATIO * seconds
        if self._running is None:
            return
        self._saved_seconds -= seconds
        self._left -= steps
        if self._left <= 0:
            self._running = None

    def consider(self, looks: dict[int, Option], chosen: int) -> int | None:
        """The length to probe now, or None. `looks` is by length and includes the `chosen` one."""
        if self._running is not None:
            return self._running if self._running in looks else None
        length = self._neighbour({k: look.goodput for k, look in looks.items()}, chosen)
        if length is None:
            return None
        price = PROBE_STEPS * looks[length].step_seconds
        self._saved_seconds = min(self._saved_seconds, MAX_SAVED_PROBES * price)
        if self._saved_seconds < price:
            return None
        self._look_up = length < chosen
        self._running, self._left = length, PROBE_STEPS
        return length

    def _neighbour(self, goodputs: dict[int, float], chosen: int) -> int | None:
        shorter = [length for length in goodputs if length < chosen]
        longer = [length for length in goodputs if length > chosen]
        if not shorter:
            # Nothing is observed at the bottom: this look is due whatever is predicted.
            return min(longer, default=None)
        below, above = max(shorter), min(longer, default=None)
        order = (above, below) if self._look_up else (below, above)
        least = (1.0 - HOPELESS_GAP) * goodputs[chosen]
        return next((length for length in order if length is not None and goodputs[length] >= least), None)
