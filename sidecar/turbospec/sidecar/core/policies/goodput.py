"""The default policy: the lengths with the highest predicted goodput, per request where possible."""

from __future__ import annotations

import numpy as np
from turbospec.sidecar.core.cost_features import octave
from turbospec.sidecar.core.exploration import HOPELESS_GAP, LearningSchedule, ProbeBudget
from turbospec.sidecar.core.off import LEAST_GAIN, Drafting, OffSwitch
from turbospec.sidecar.core.optimizer import Freedom, Option, best, compare, uniform
from turbospec.sidecar.core.policies.base import Lengths, View
from turbospec.sidecar.core.types import Candidate, Capabilities, Observation, Reason

# Raising the length drafts for nothing in one step, and predictions are good to a few percent: a gain below
# 1% is not worth the move, and staying costs at most that.
WORTH_SWITCHING = 1.01
# A learning length predicted to give less than half of idle's goodput teaches too dearly. Where predictions
# rest on measurement, the gap beyond which probes look at nothing holds for the first walk too, which shows
# what lengths cost; after one was made at some load, half of it: should a prediction be that wrong, probes
# find it out within their budget.
LEARNING_FLOOR = 0.5
LATER_GAP = HOPELESS_GAP / 2


class GoodputPolicy:
    """Learns for some steps, then follows the optimum, looking beside it within a budget."""

    spec = "goodput"

    def __init__(self) -> None:
        # By octave of the batch size: what lengths cost alone says little of what they cost in a crowd. And
        # by whether steps compute prompts too.
        self._schedules: dict[tuple[int, bool], LearningSchedule] = {}
        self._learning: LearningSchedule | None = None
        self._probes = ProbeBudget()
        self._switch = OffSwitch()
        self._shadow = False
        self._current: int | None = None

    def observe(self, observation: Observation, *, timed: bool) -> None:
        """Advances learning or the probes' budget."""
        if not observation.slots.size:
            return
        if observation.duration is not None:
            self._switch.spend(observation.duration)
        if self._shadow:
            return
        if self._learning is not None and not self._learning.done:
            self._learning.advance(timed=timed)
        elif observation.duration is not None:
            self._probes.spend(observation.duration, observation.steps)

    def decide(self, view: View) -> Lengths:
        """Lengths for the next step."""
        capabilities = view.capabilities
        self._shadow = view.shadow
        self._learning = learning = self._schedule(view)
        if not view.latency.ready:
            return self._unmeasured(view, learning)

        def look_at(length: int) -> Option:
            return uniform(view.batch, min(k for k in view.proposals if k >= length), length, view.cost)

        freedom = Freedom(
            view.proposals, capabilities.verification_per_request, capabilities.ragged_breaks_graphs
        )
        options = compare(view.batch, freedom, view.cost)
        shortest = view.proposals[0]
        idle = options[0] if shortest == 0 else uniform(view.batch, shortest, 0, view.cost)
        lengths = _looks(capabilities, view.proposals)
        top = best(options)
        least = LEARNING_FLOOR * idle.goodput
        if view.latency.fitted:
            walked = any(other.done for other in self._schedules.values() if other is not learning)
            least = (1.0 - (LATER_GAP if walked else HOPELESS_GAP)) * top.goodput
        # While off, what other batch sizes taught must do: a walk over the lengths would need the drafter.
        learns = self._switch.state is Drafting.ON and not view.shadow
        if learns and learning.walked:
            off = view.off_goodput()
            # First off is tried, where that may pay: lengths far below it are in no contest.
            if off <= top.goodput or view.latency.off_was_tried(view.requests):
                goodputs = {length: look_at(length).goodput for length in lengths}
                learning.contest(goodputs, view.requests, off=off)
        while learns and not learning.done:
            wanted = _nearest(lengths, learning.length)
            look = look_at(wanted)
            if wanted and look.goodput < least:
                learning.skip()
                continue
            why = f"learning costs and acceptance: looking at length {wanted}"
            return _lengths(look, Reason.LEARNING, why, options)
        top = self._steadied(top, options)
        if capabilities.deep_off and view.latency.fitted:
            # Nothing is looked at while the drafter runs.
            looks_now = self._switch.state is not Drafting.ON and np.count_nonzero(view.batch.caps)
            look = look_at(1) if looks_now else idle
            without = self._without_drafter(view, freedom, options, look)
            if without is not None:
                return without
        self._current = top.proposal_length
        at = top.proposal_length if capabilities.proposal_settable else int(top.verification.max())
        if capabilities.proposal_settable:
            looks = {option.proposal_length: option for option in options}
        else:
            looks = {length: look_at(length) for length in lengths} | {at: top}
        probe = None if view.shadow else self._probes.consider(looks, at)
        compared = f"{top.goodput:.1f} tokens/s at length {at}"
        if probe is not None:
            why = f"a probe of length {probe}, while the best is predicted to be {compared}"
            return _lengths(look_at(probe), Reason.PROBE, why, options)
        if not top.verified:
            others = max((look.goodput for length, look in looks.items() if length), default=top.goodput)
            why = f"speculation does not pay: {compared}, at best {others:.1f} with drafts"
            return _lengths(top, Reason.DOES_NOT_PAY, why, options)
        why = (
            f"best goodput: {compared} against {idle.goodput:.1f} without drafts, verifying "
            f"{top.verified / view.requests:.2f} drafts per request of {view.requests}"
        )
        return _lengths(top, Reason.BEST_GOODPUT, why, options)

    def _without_drafter(
        self, view: View, freedom: Freedom, options: list[Option], look: Option
    ) -> Lengths | None:
        """Lengths while the drafter is skipped, or looked at again; None while it is on."""
        everyone = options if view.everyone is None else compare(view.everyone, freedom, view.cost)
        speculating = best(everyone)
        off = view.off_goodput()
        seconds = view.requests / off
        # As if without the drafter prompts were free: only what it adds to them makes a difference.
        on = 1.0 / (1.0 / speculating.goodput + view.drafter_prefill_seconds)
        looking = 1.0 / (1.0 / look.goodput + view.drafter_prefill_seconds)
        tried = view.latency.off_was_tried(view.requests)
        state = self._switch.consider(
            speculating=on,
            looking=looking,
            off=off,
            step_seconds=seconds,
            tried=tried,
            size=octave(view.requests),
        )
        if state is Drafting.ON:
            return None
        hoped = "" if tried else " (hoped for)"
        compared = (
            f"{off:.1f} tokens/s without the drafter{hoped}, {on:.1f} at best with it "
            f"(length {speculating.proposal_length})"
        )
        if off < on < (1.0 + LEAST_GAIN) * off:
            compared += f", which is not {LEAST_GAIN:.0%} more"
        if state is Drafting.LOOKING and not view.shadow:
            why = f"a look whether speculation would pay again: {compared}"
            return _lengths(look, Reason.PROBE, why, options)
        return Lengths(
            proposal_length=view.proposals[0],
            verification=np.zeros(view.requests, dtype=np.int64),
            floor=np.inf,
            reason=Reason.OFF,
            explanation=f"the drafter is skipped: {compared}",
            predicted_goodput=off,
            predicted_step_seconds=seconds,
            candidates=_candidates(options, None),
            skip_drafter=True,
        )

    def _schedule(self, view: View) -> LearningSchedule:
        kind = octave(view.requests), view.latency.mixed
        if kind not in self._schedules:
            latency = view.latency
            # What an earlier policy's steps taught need not be looked at again.
            self._schedules[kind] = LearningSchedule(
                _looks(view.capabilities, view.capabilities.candidate_lengths),
                view.capabilities.static_length,
                lambda length: latency.steps_at(view.requests, length),
            )
        return self._schedules[kind]

    def _steadied(self, top: Option, options: list[Option]) -> Option:
        current = next((o for o in options if o.proposal_length == self._current), top)
        steadied = current if top.goodput < WORTH_SWITCHING * current.goodput else top
        # Drafts of which none is verified may look free, where the first draft pass runs anyway.
        return steadied if steadied.verified else options[0]

    def _unmeasured(self, view: View, learning: LearningSchedule) -> Lengths:
        length = view.capabilities.static_length if learning.done else learning.length
        length = _nearest(view.proposals, length)
        return Lengths(
            proposal_length=length,
            verification=np.minimum(length, view.batch.caps),
            floor=0.0,
            reason=Reason.LEARNING,
            explanation=f"no step has been timed yet: starting with length {length}",
        )


def _looks(capabilities: Capabilities, proposals: tuple[int, ...]) -> tuple[int, ...]:
    """Lengths to look at: the proposals, or verification lengths where only those can change."""
    return proposals if capabilities.proposal_settable else tuple(range(max(proposals) + 1))


def _nearest(proposals: tuple[int, ...], length: int) -> int:
    return min(proposals, key=lambda k: (abs(k - length), k))


def _lengths(chosen: Option, reason: Reason, why: str, options: list[Option]) -> Lengths:
    return Lengths(
        proposal_length=chosen.proposal_length,
        verification=chosen.verification,
        floor=chosen.floor,
        reason=reason,
        explanation=why,
        predicted_goodput=chosen.goodput,
        predicted_step_seconds=chosen.step_seconds,
        candidates=_candidates(options, chosen.proposal_length),
    )


def _candidates(options: list[Option], chosen: int | None) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            proposal_length=option.proposal_length,
            verified_tokens=option.verified,
            expected_tokens=option.expected_tokens,
            step_seconds=option.step_seconds,
            goodput=option.goodput,
            chosen=option.proposal_length == chosen,
        )
        for option in options
    )
