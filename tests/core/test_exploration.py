"""Looking beside the optimum is bounded, and never stops for good."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from support.scripted.costs import Costs, linear
from support.scripted.direct import DirectEngine
from support.scripted.hello import capabilities
from support.scripted.machine import Machine
from support.scripted.traffic import TrafficClass
from support.scripted.world import World
from turbospec.sidecar.core.exploration import LearningSchedule, ProbeBudget
from turbospec.sidecar.core.optimizer import Option
from turbospec.sidecar.core.types import Reason

HOPELESS = TrafficClass((0.1,))


def look(goodput: float, seconds: float = 0.02) -> Option:
    return Option(0, 1, np.array([0]), np.array([0]), 1, 1, goodput * seconds, seconds, goodput, 0.0)


@dataclass
class Steps:
    """Runs a budget over virtual steps of 20 ms and notes what it probes."""

    budget: ProbeBudget

    def run(self, steps: int, goodputs: dict[int, float], chosen: int) -> list[int]:
        looks = {k: look(goodput) for k, goodput in goodputs.items()}
        probes = []
        for _ in range(steps):
            probe = self.budget.consider(looks, chosen)
            self.budget.spend(0.02)
            if probe is not None:
                probes.append(probe)
        return probes


def test_probes_stay_within_one_percent() -> None:
    """Over a long run at most one step in a hundred is a probe, and not much less."""
    probes = Steps(ProbeBudget()).run(10_000, {0: 1.0, 1: 0.9}, 0)
    assert 80 <= len(probes) <= 101


def test_both_sides_of_the_optimum_are_looked_at() -> None:
    """Above zero the next longer and the next shorter length are probed in turn."""
    probes = Steps(ProbeBudget()).run(2000, {0: 0.9, 1: 1.0, 2: 0.95}, 1)
    assert set(probes) == {0, 2}


def test_hopeless_neighbours_are_not_probed_except_from_zero() -> None:
    """A look that could not change a decision is not paid for; at zero one is due all the same."""
    assert not Steps(ProbeBudget()).run(2000, {0: 0.5, 1: 1.0, 2: 0.5}, 1)
    assert Steps(ProbeBudget()).run(2000, {0: 1.0, 1: 0.2}, 0)


def test_a_quiet_hour_does_not_end_in_a_burst() -> None:
    """What was not spent is saved for two probes, no more."""
    steps = Steps(ProbeBudget())
    steps.run(50_000, {0: 0.5, 1: 1.0}, 1)
    assert len(steps.run(100, {0: 0.99, 1: 1.0}, 1)) <= 6


def test_learning_is_short_and_visits_distinct_lengths() -> None:
    """The walk at the start takes about twenty steps, with zero, one and the longest among them."""
    schedule = LearningSchedule(tuple(range(7)), 3, steps_at=lambda _: 0)
    visited = []
    while not schedule.done:
        visited.append(schedule.length)
        schedule.advance(timed=True)
    assert len(visited) <= 20
    assert {0, 1, 6} <= set(visited)


def test_known_lengths_are_not_learned_again() -> None:
    """Lengths that steps were timed at under another policy are left out; all known, nothing is learned."""
    schedule = LearningSchedule(tuple(range(7)), 3, steps_at={0: 50, 6: 50, 2: 1, 1: 0}.__getitem__)
    assert schedule.length == 1
    assert LearningSchedule(tuple(range(7)), 3, steps_at=lambda _: 50).done


def test_learning_ends_even_where_nothing_can_be_timed() -> None:
    """An engine under constant prefill is not kept learning for ever."""
    schedule = LearningSchedule(tuple(range(7)), 3, steps_at=lambda _: 0)
    for _ in range(64):
        schedule.advance(timed=False)
    assert schedule.done


@pytest.mark.parametrize(
    "changes",
    [{}, {"proposal_settable": False}, {"proposal_settable": False, "verification_per_request": False}],
)
def test_at_zero_probes_go_on_and_the_ratio_holds(changes: dict[str, object]) -> None:
    """Where speculation never pays it is off, but for probes within 1% of step time."""
    machine = Machine(Costs(linear(token=0.002)))
    engine = DirectEngine(World(capabilities(4, **changes), [HOPELESS], 8, machine))
    controller = engine.controller
    engine.run(200)
    reasons = [engine.step()[0].reason for _ in range(1500)]
    assert set(reasons) <= {Reason.DOES_NOT_PAY, Reason.PROBE}
    assert 4 <= reasons.count(Reason.PROBE) <= 20
    assert controller.probe_steps >= reasons.count(Reason.PROBE)
    assert 0 < controller.probe_time_ratio <= 0.0125


def test_speculation_returns_when_it_pays_again() -> None:
    """Off by evidence and on again by evidence: the probes notice."""
    traffic = TrafficClass((0.1,))
    engine = DirectEngine(World(capabilities(4), [traffic], 8))
    assert engine.run(600).last(100).mean_length < 0.2
    traffic.hazards = (0.9,)
    assert engine.run(1200).last(100).mean_length > 2
