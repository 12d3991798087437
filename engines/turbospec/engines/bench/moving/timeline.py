"""What was seen over time, and how long lengths took to settle after each step of load. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_FINAL_SHARE = 1 / 3
_BAND_TOKENS, _BAND_RATIO = 0.5, 0.2
_INSIDE_SHARE = 0.8
_HOLD_SECONDS = 2.0

DEFINITION = (
    "from the step to the first sample of the mean verification length that is within max(0.5 tokens, 20%) "
    "of the median of the phase's last third, as are at least 80% of the samples of the 2 s from it on, and "
    "of those from it to the phase's end; null where there is none before the last third"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. `seconds` since the beginning; `tokens_per_second` that clients received since the last one.

    `mean_verification_length` is the newest plan's, None where it names no request; `unready_requests` run
    without speculation because the drafter was skipped while they did.
    """

    seconds: float
    requests_in_flight: int
    tokens_per_second: float
    mean_verification_length: float | None
    proposal_length: int
    drafter_skipped: bool
    unready_requests: int


@dataclass(frozen=True, slots=True)
class Phase:
    """Between two steps of load: when it began and ended, and how many requests ran at once."""

    began_seconds: float
    ended_seconds: float
    requests: int


@dataclass(frozen=True, slots=True)
class Step:
    """A change of load. `settle_seconds`: None where lengths did not settle."""

    at_seconds: float
    before: int
    after: int
    settle_seconds: float | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """One run of one pair."""

    pair: str
    samples: Sequence[Sample]
    phases: Sequence[Phase]

    def steps(self) -> list[Step]:
        """Every change of load."""
        lengths = [(sample.seconds, sample.mean_verification_length) for sample in self.samples]
        return [
            Step(after.began_seconds, before.requests, after.requests, settle_seconds(lengths, after))
            for before, after in zip(self.phases, self.phases[1:], strict=False)
        ]

    def settled(self, phase: Phase) -> tuple[float | None, float]:
        """Of the phase's last third: median length, None where no request was planned for, and mean
        tokens per second."""
        last = [s for s in self.samples if _final_began(phase) <= s.seconds < phase.ended_seconds]
        lengths = [s.mean_verification_length for s in last if s.mean_verification_length is not None]
        speeds = [s.tokens_per_second for s in last]
        return statistics.median(lengths) if lengths else None, statistics.fmean(speeds) if speeds else 0.0


def settle_seconds(lengths: Sequence[tuple[float, float | None]], phase: Phase) -> float | None:
    """From the phase's begin until `lengths` (seconds, length) have settled, as DEFINITION says.

    Moments without a length are left out.
    """
    within = [
        (moment, length)
        for moment, length in lengths
        if length is not None and phase.began_seconds <= moment < phase.ended_seconds
    ]
    final = [length for moment, length in within if moment >= _final_began(phase)]
    if not final:
        return None
    median = statistics.median(final)
    band = max(_BAND_TOKENS, _BAND_RATIO * median)
    inside = [(moment, abs(length - median) <= band) for moment, length in within]
    for i, (moment, now) in enumerate(inside):
        if moment >= _final_began(phase):
            break
        rest = inside[i:]
        if now and _most([x for x in rest if x[0] <= moment + _HOLD_SECONDS]) and _most(rest):
            return moment - phase.began_seconds
    return None


def _final_began(phase: Phase) -> float:
    return phase.ended_seconds - _FINAL_SHARE * (phase.ended_seconds - phase.began_seconds)


def _most(inside: Sequence[tuple[float, bool]]) -> bool:
    return sum(now for _, now in inside) >= _INSIDE_SHARE * len(inside)
