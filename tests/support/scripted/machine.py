"""A machine: stated costs, and what real clocks add to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from support.scripted.costs import Costs, Shape
from turbospec.sidecar.core.types import Disturbance

# Median of |N(0, 1)|.
_MEDIAN_ABSOLUTE_NORMAL = 0.6745

Speed = Callable[[int], float]
"""Factor on the time of each step, by its number from 1."""


def shift(at: int, factor: float) -> Speed:
    """From step `at` on, steps take `factor` times as long."""
    return lambda number: factor if number >= at else 1.0


def drift(start: int, end: int, factor: float) -> Speed:
    """From step `start` to `end`, steps come to take `factor` times as long, by equal ratios."""

    def speed(number: int) -> float:
        share = min(max((number - start) / (end - start), 0.0), 1.0)
        return float(factor**share)

    return speed


@dataclass(frozen=True, slots=True)
class SlowStep:
    """One step takes `factor` times as long. `flag`: what the engine says of it; None: it does not know."""

    factor: float
    flag: Disturbance | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """Times of steps. Noise is one-sided: most steps are near the stated time, all above, some far above.

    A step takes (1 + |N(0, `noise`)|) times what `costs` say, and with probability `outlier_rate`
    `outlier_factor` times that. `slow_steps` are by number.
    """

    costs: Costs = field(default_factory=Costs)
    noise: float = 0.05
    outlier_rate: float = 0.01
    outlier_factor: float = 3.0
    speed: Speed = lambda _: 1.0
    slow_steps: Mapping[int, SlowStep] = field(default_factory=dict)

    def seconds(self, number: int, shape: Shape, draw: np.random.Generator) -> float:
        """How long step `number` takes."""
        seconds = self.speed(number) * self.costs.seconds(shape) * (1.0 + abs(draw.normal(0.0, self.noise)))
        if draw.random() < self.outlier_rate:
            seconds *= self.outlier_factor
        slow = self.slow_steps.get(number)
        return seconds * slow.factor if slow else seconds

    def typical_seconds(self, number: int, shape: Shape) -> float:
        """The median over the noise of step `number`'s time, where nothing slows it down."""
        return self.speed(number) * self.costs.seconds(shape) * (1.0 + _MEDIAN_ABSOLUTE_NORMAL * self.noise)

    def flags(self, number: int) -> frozenset[Disturbance]:
        """What the engine says of step `number`'s disturbances, besides prompts."""
        slow = self.slow_steps.get(number)
        return frozenset({slow.flag}) if slow and slow.flag else frozenset()
