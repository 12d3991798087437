"""In worlds with stated hazards and costs, `goodput` comes close to the best length there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from support.scripted.costs import Costs, Surface, linear, uniform_shape
from support.scripted.direct import DirectEngine
from support.scripted.hello import capabilities
from support.scripted.machine import Machine
from support.scripted.traffic import TrafficClass
from support.scripted.world import World
from turbospec.sidecar.core.controller import EngineController

LONGEST = 6


def concave(tokens: float) -> float:
    """A CPU's target pass: a jump from one token to two, then sublinear."""
    return 0.001 if tokens <= 1 else 0.003 + 0.001 * tokens**0.8


@dataclass(frozen=True)
class Setting:
    traffic: tuple[TrafficClass, ...]
    concurrency: int
    costs: Costs = field(default_factory=Costs)
    noise: float = 0.05

    def run(self, policy: str, warm_up: int = 150, steps: int = 600, seed: int = 0) -> tuple[float, float]:
        """Goodput and mean proposal length after `warm_up` steps."""
        machine = Machine(self.costs, self.noise)
        world = World(capabilities(LONGEST), list(self.traffic), self.concurrency, machine, seed=seed)
        engine = DirectEngine(world, EngineController(world.capabilities, policy))
        engine.run(warm_up)
        run = engine.run(steps)
        return run.goodput, run.mean_length

    def best_length(self) -> int:
        """The best uniform length, from the stated hazards and costs of the one traffic class or the mean."""

        def goodput(k: int) -> float:
            n = self.concurrency
            expected = [
                1 + sum(np.cumprod([c.hazards[min(j, len(c.hazards) - 1)] for j in range(k)]))
                for c in self.traffic
            ]
            return n * float(np.mean(expected)) / self.costs.seconds(uniform_shape(n, k))

        return max(range(LONGEST + 1), key=goodput)

    def gain_over_best_static(self) -> tuple[float, float]:
        """Goodput over the best static length's, and the mean length; the sum of two seeds."""
        runs = [self.run("goodput", seed=seed) for seed in (1, 2)]
        static = [self.run(f"static:{self.best_length()}", seed=seed)[0] for seed in (3, 4)]
        return sum(run[0] for run in runs) / sum(static), float(np.mean([run[1] for run in runs]))


HIGH = (TrafficClass((0.75, 0.75, 0.8)),)
LOW = (TrafficClass((0.4, 0.35)),)
CPU = Costs(Surface(0.01, concave), draft_pass=0.0015)

WORLDS = {
    "one request, agreeing draft": (Setting(HIGH, 1), lambda k: k >= 3),
    "eight requests, agreeing draft": (Setting(HIGH, 8), lambda k: 2 <= k <= 4),
    "eight requests, costly tokens, disagreeing draft": (
        Setting(LOW, 8, Costs(linear(token=0.001))),
        lambda k: k <= 1.5,
    ),
    "large batch, costly tokens": (Setting(LOW, 32, Costs(linear(token=0.002))), lambda k: k < 0.1),
    "concave cost": (Setting(HIGH, 4, CPU), lambda k: k >= 2),
    "noisy machine": (Setting(HIGH, 8, noise=0.25), lambda k: 2 <= k <= 4.1),
}


@pytest.mark.parametrize(("setting", "fits"), WORLDS.values(), ids=WORLDS.keys())
def test_close_to_the_best_static_length(setting: Setting, fits: Callable[[float], bool]) -> None:
    """After 150 steps goodput is within 4% of the best static length's, at a length that suits the world.

    3% are promised; the rest is the luck of some hundred steps.
    """
    gain, length = setting.gain_over_best_static()
    assert gain > 0.96
    assert fits(length)


def test_lengths_of_their_own_beat_any_uniform_length() -> None:
    """Where half of the requests copy and half do not, per-request lengths gain at least 4%."""
    setting = Setting((TrafficClass((0.9,)), TrafficClass((0.2,))), 16, Costs(linear(token=0.001)))
    assert setting.gain_over_best_static()[0] > 1.04


def test_better_than_turbospec_2024_over_all_worlds() -> None:
    """The baseline is beaten in the mean over these worlds, and nowhere wins by more than luck."""
    ratios = [
        setting.run("goodput", steps=500)[0] / setting.run("turbospec-2024", steps=500)[0]
        for setting, _ in WORLDS.values()
    ]
    assert np.mean(ratios) > 1.0
    assert min(ratios) > 0.95


def test_a_fall_of_acceptance_is_followed_within_seconds() -> None:
    """When drafts stop agreeing, lengths fall within 50 steps, a few seconds."""
    traffic = TrafficClass((0.85,))
    machine = Machine(Costs(linear(token=0.002)))
    engine = DirectEngine(World(capabilities(LONGEST), [traffic], 8, machine))
    before = engine.run(300).last(50).mean_length
    traffic.hazards = (0.1,)
    engine.run(50)
    after = engine.run(50).mean_length
    assert before >= 1.5
    assert after < 0.75


def test_lengths_follow_load_at_once() -> None:
    """From one request to thirty-two and back, the length changes within 30 steps."""
    costs = Costs(linear(0.01, 0.0015), draft_pass=0.0015)
    traffic = TrafficClass((0.65,), output_tokens=20)
    engine = DirectEngine(World(capabilities(LONGEST), [traffic], 1, Machine(costs)))
    means = []
    for concurrency in (1, 32, 1, 32):
        engine.world.concurrency = concurrency
        engine.run(60)
        means.append(engine.run(100).mean_length)
    assert min(means[0], means[2]) > 1.2
    assert max(means[1], means[3]) < 0.6


def test_predictions_hold() -> None:
    """What plans promise is what users get, to 5%, and idling would have given less."""
    engine = DirectEngine(World(capabilities(LONGEST), list(HIGH), 8))
    engine.run(600)
    goodput = engine.controller.goodput()
    assert goodput.realised is not None
    assert goodput.realised == pytest.approx(goodput.predicted, rel=0.05)
    assert goodput.idle is not None
    assert goodput.idle < goodput.realised
