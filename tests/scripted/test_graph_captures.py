"""Graphs that are captured when their size is first met: slow steps at the start that nobody announces."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from scripted.checks import check_predictions, prediction_errors
from scripted.worlds import AGREEING, GRAPH_SIZES
from support.scripted.costs import Costs, Shape, linear
from support.scripted.direct import DirectEngine
from support.scripted.hello import declared
from support.scripted.machine import Machine
from support.scripted.world import World

STAIRCASE = Costs(linear(0.010, 0.001, GRAPH_SIZES), draft_pass=0.0005)
CAPTURE_FACTOR = 10.0


@dataclass(frozen=True, slots=True)
class CapturingMachine(Machine):
    """The first `captures` steps at each graph's size take ten times as long."""

    captures: int = 1
    met: Counter[int] = field(default_factory=Counter)

    def seconds(self, number: int, shape: Shape, draw: np.random.Generator) -> float:
        size = self.costs.target.padded(shape.tokens)
        self.met[size] += 1
        seconds = Machine.seconds(self, number, shape, draw)
        return CAPTURE_FACTOR * seconds if self.met[size] <= self.captures else seconds


def engine_with(machine: CapturingMachine, requests: int, seed: int) -> DirectEngine:
    return DirectEngine(World(declared(STAIRCASE), [AGREEING], requests, machine, seed=seed))


def check(engine: DirectEngine) -> None:
    errors = prediction_errors(engine.controller, engine.world)
    check_predictions(errors, within=0.10)
    chosen = engine.controller.decide().proposal_length
    check_predictions({chosen: errors[chosen]})


@pytest.mark.parametrize("requests", [4, 8])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_captures_are_not_taken_for_costs(seed: int, requests: int) -> None:
    """The first step at each captured size takes ten times as long, and nothing says why. Once the lengths
    have been walked predictions hold to 5% for the length in use, to 10% for all others, though some sizes
    are met for the first time later."""
    machine = CapturingMachine(STAIRCASE)
    engine = engine_with(machine, requests, seed)
    engine.run(60)
    for _ in range(14):
        engine.run(10)
        check(engine)
    assert len(machine.met) >= 4


def test_what_is_slow_more_often_is_believed() -> None:
    """The negative control: where the first eight steps at each size are slow, they are what is known."""
    engine = engine_with(CapturingMachine(STAIRCASE, captures=8), 8, seed=1)
    engine.run(60)
    with pytest.raises(AssertionError):
        check(engine)
