"""What a run did: for checks of what a controller found, and for comparison with real engines."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from support.scripted.costs import Shape
from support.scripted.world import Plan, Step, World


@dataclass(frozen=True, slots=True)
class Recording:
    """Steps in order."""

    steps: Sequence[Step]

    @property
    def seconds(self) -> float:
        """Virtual time."""
        return sum(step.seconds for step in self.steps)

    @property
    def goodput(self) -> float:
        """Tokens per second that users received."""
        return sum(step.emitted_tokens for step in self.steps) / self.seconds

    @property
    def lengths(self) -> list[int]:
        """Proposal length of each step."""
        return [step.shape.proposal_length for step in self.steps]

    @property
    def mean_length(self) -> float:
        return fmean(self.lengths)

    @property
    def skipped(self) -> list[bool]:
        """Whether the drafter was skipped, for each step."""
        return [step.shape.drafter_skipped for step in self.steps]

    def last(self, steps: int) -> Recording:
        """The newest `steps`."""
        return Recording(self.steps[-steps:])

    def seconds_by(self, key: Callable[[Shape], object]) -> dict[object, list[float]]:
        """Times of undisturbed steps, grouped by something of their shape."""
        groups: dict[object, list[float]] = defaultdict(list)
        for step in self.steps:
            if not step.disturbances:
                groups[key(step.shape)].append(step.seconds)
        return dict(groups)

    def rows(self) -> list[dict[str, Any]]:
        """Each step's shape and time, and tokens by fate, as a flat record."""
        return [
            {
                "step": step.number,
                **asdict(step.shape),
                "seconds": step.seconds,
                "stated_seconds": step.stated_seconds,
                "decoding": len(step.requests),
                "proposed": sum(step.proposed),
                "verified": sum(step.verified),
                "accepted": sum(step.accepted),
                "emitted_tokens": step.emitted_tokens,
                "disturbances": sorted(flag.value for flag in step.disturbances),
            }
            for step in self.steps
        ]

    def write(self, path: Path) -> None:
        """`rows` as JSON lines."""
        path.write_text("".join(json.dumps(row) + "\n" for row in self.rows()))


def run_fixed(world: World, plan: Plan, steps: int) -> Recording:
    """Runs a world without a controller, under one plan."""
    return Recording([world.step(plan) for _ in range(steps)])
