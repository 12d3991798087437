"""Negative controls: worlds whose reports lie make the checks of what was found fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scripted.checks import check_hazards, check_near_best, check_predictions, prediction_errors
from support.scripted.costs import Costs, linear
from support.scripted.direct import DirectEngine
from support.scripted.hello import declared
from support.scripted.machine import Machine
from support.scripted.traffic import TrafficClass
from support.scripted.world import Plan, Step, World

TOLD = TrafficClass((0.7,))
COSTS = Costs(linear(0.020, 0.0005))


class PastRejections(World):
    """Counts accepted drafts past the first rejection too."""

    def step(self, plan: Plan) -> Step:
        step = super().step(plan)
        draw = np.random.default_rng(step.number)
        left = np.maximum(np.array(step.verified) - step.accepted - 1, 0)
        return replace(
            step, accepted=(np.array(step.accepted) + draw.binomial(left, TOLD.hazard(0))).tolist()
        )


class ShuffledCosts(World):
    """Says of each length what another one takes."""

    def step(self, plan: Plan) -> Step:
        step = super().step(plan)
        longest = self.capabilities.max_length
        other = replace(
            step.shape,
            proposal_length=longest - step.shape.proposal_length,
            tokens=step.shape.requests * (1 + longest) - step.shape.tokens + step.shape.requests,
        )
        return replace(step, seconds=step.seconds * COSTS.seconds(other) / step.stated_seconds)


class Honest(World):
    """Reports what happened."""


def run(kind: type[World]) -> tuple[DirectEngine, World]:
    world = kind(declared(COSTS), [TOLD], 8, Machine(COSTS), seed=5)
    engine = DirectEngine(world)
    engine.run(500)
    return engine, world


def check_hazards_of(engine: DirectEngine) -> None:
    found = engine.controller.acceptance()
    check_hazards(found.hazards.tolist(), found.evidence.tolist(), TOLD)


def test_an_honest_world_passes() -> None:
    """All checks hold in the world that the liars are made from."""
    engine, world = run(Honest)
    check_hazards_of(engine)
    check_near_best(engine.recording.last(300), world)
    check_predictions(prediction_errors(engine.controller, world))


def test_acceptance_past_a_rejection_is_seen() -> None:
    """The hazards found are not those of the world: the first ones come out too high."""
    engine, _ = run(PastRejections)
    with pytest.raises(AssertionError):
        check_hazards_of(engine)


def test_shuffled_costs_are_seen() -> None:
    """Step times are not those of the world, nor are the lengths its best."""
    engine, world = run(ShuffledCosts)
    check_hazards_of(engine)
    with pytest.raises(AssertionError):
        check_predictions(prediction_errors(engine.controller, world))
    with pytest.raises(AssertionError):
        check_near_best(engine.recording.last(300), world)
