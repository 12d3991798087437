"""Which reported steps belong to a cell: of our own requests, at the length asked for, and undisturbed.

Prompts disturb all cells but those that are about them.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import fmean, median

from turbospec.engines.profiling.plan import PlannedCell
from turbospec.engines.profiling.statistics import spread
from turbospec.sidecar.profiles.profile import Cell

PREFILL = "DISTURBANCE_PREFILL"
PREEMPTION = "DISTURBANCE_PREEMPTION"

# After a new length the next steps still verify drafts of the one before.
_PASSING_STEPS = 2
# Steps of one planned cell differ in tokens only where the drafter finds something now and then; counts
# within a fifth are of one kind, as in profiles of ordinary traffic.
_COUNTS_PER_OCTAVE = 4


@dataclass(frozen=True, slots=True)
class Step:
    """One report; the fields are those of the protocol's ReportedStep. `seconds` None: not measured."""

    steps: int
    seconds: float | None
    disturbances: frozenset[str]
    requests: int
    decoding_requests: int
    labelled_requests: int
    context_tokens: int
    target_tokens: int
    prefill_tokens: int
    proposal_length: int
    ragged: bool
    drafter_skipped: bool
    plan_version: int
    labelled_unready_requests: int


class Verdict(Enum):
    """What becomes of a step."""

    MEASURED = "measured"
    FOREIGN = "with requests of others"
    UNTIMED = "without a time of its own"
    PREFILL = "with prompts"
    NO_PROMPT = "without the prompts that were to be measured"
    DISTURBED = "disturbed"
    PARTIAL = "with fewer requests"
    OTHER_LENGTH = "at another length"
    UNREADY = "with requests that cannot speculate"
    PASSING = "just after a change of length"


class Sorter:
    """Sorts the steps of one visit to a cell."""

    def __init__(self, cell: PlannedCell, *, proposal_settable: bool) -> None:
        """`proposal_settable`: the engine proposes the cell's length; else always its longest."""
        self.cell = cell
        self._proposal_settable = proposal_settable
        self._passing = _PASSING_STEPS
        self._kept: defaultdict[Hashable, list[Step]] = defaultdict(list)
        self.counts: Counter[Verdict] = Counter()

    def pause(self) -> None:
        """The next steps follow a change of length or of requests."""
        self._passing = _PASSING_STEPS

    def add(self, step: Step) -> Verdict:
        """Takes one step, in the order of their reports."""
        verdict = self._judge(step)
        self.counts[verdict] += step.steps
        if verdict is Verdict.MEASURED:
            self._kept[bucket(step.target_tokens, _COUNTS_PER_OCTAVE), step.ragged].append(step)
        return verdict

    def groups(self) -> tuple[Cell, ...]:
        """What was measured, a cell for each kind of step."""
        return tuple(_grouped(steps) for steps in self._kept.values())

    def _judge(self, step: Step) -> Verdict:
        if step.steps > 1 or step.seconds is None:
            return Verdict.UNTIMED
        if step.labelled_requests < step.requests:
            return Verdict.FOREIGN
        if step.disturbances - {PREFILL}:
            return Verdict.DISTURBED
        load, prompts = self.cell.load, PREFILL in step.disturbances
        if prompts and not load.prefill:
            return Verdict.PREFILL
        if step.decoding_requests != load.requests or (step.requests != load.requests and not prompts):
            return Verdict.PARTIAL
        if step.labelled_unready_requests and self.cell.mode.length:
            return Verdict.UNREADY
        if not self._as_asked(step):
            return Verdict.OTHER_LENGTH
        if self._passing:
            self._passing -= 1
            return Verdict.PASSING
        return Verdict.NO_PROMPT if load.prefill and not prompts else Verdict.MEASURED

    def _as_asked(self, step: Step) -> bool:
        mode = self.cell.mode
        length_fits = step.proposal_length == mode.length or not self._proposal_settable
        return length_fits and step.drafter_skipped == mode.skip_drafter and step.plan_version > 0


def bucket(count: int, per_octave: int) -> int:
    """Counts that differ by less than one of so many parts of a doubling are in one."""
    return round(per_octave * math.log2(count)) if count else -1


def _grouped(steps: Sequence[Step]) -> Cell:
    seconds = [step.seconds for step in steps if step.seconds is not None]
    requests = steps[0].decoding_requests
    prefill = round(fmean(step.prefill_tokens for step in steps))
    return Cell(
        requests=requests,
        target_tokens=max(round(fmean(step.target_tokens for step in steps)), requests + prefill),
        context_tokens=round(fmean(step.context_tokens for step in steps)),
        prefill_tokens=prefill,
        proposal_length=steps[0].proposal_length,
        ragged=steps[0].ragged,
        drafter_skipped=steps[0].drafter_skipped,
        steps=len(steps),
        seconds=median(seconds),
        spread_seconds=spread(seconds),
    )
