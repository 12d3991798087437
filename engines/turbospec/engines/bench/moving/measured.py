"""All that was measured, as it comes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from turbospec.engines.bench.e2e.scoring import Scores
from turbospec.engines.bench.moving.mix import MIXES, Window
from turbospec.engines.bench.moving.plan import (
    MIX_CONCURRENCY,
    NONE,
    POLICIES,
    STATICS,
    Options,
    RequestClass,
)
from turbospec.engines.bench.moving.tally import Given
from turbospec.engines.bench.moving.timeline import Timeline


@dataclass(slots=True)
class MixMeasured:
    """Windows of one mix by policy, in the order of repeats."""

    part: str
    windows: dict[str, list[Window]] = field(default_factory=lambda: {policy: [] for policy in POLICIES})

    @property
    def classes(self) -> Sequence[RequestClass]:
        """The mix's."""
        return MIXES[self.part].classes

    def speeds(self) -> dict[str, list[float]]:
        """Tokens per second of all classes together, by policy."""
        return {
            policy: [sum(window.tokens_per_second.values()) for window in windows]
            for policy, windows in self.windows.items()
        }

    def class_speeds(self, policy: str, of_class: str) -> list[float]:
        """Tokens per second of one class."""
        return [window.tokens_per_second[of_class] for window in self.windows[policy]]

    def given(self, policy: str, of_class: str) -> Given:
        """What requests of a class were given, over all repeats."""
        return sum((window.given.get(of_class, Given()) for window in self.windows[policy]), Given())

    def scores(self) -> Scores:
        """Ratios between policies with intervals."""
        return Scores({(self.part, MIX_CONCURRENCY): self.speeds()}, (NONE, *STATICS))


@dataclass(slots=True)
class Measured:
    """One run."""

    options: Options
    timelines: list[Timeline] = field(default_factory=list)
    mixes: list[MixMeasured] = field(default_factory=list)
