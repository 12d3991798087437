"""Steps may wait to be reported where nothing is learned from single ones; what is learned stays right."""

from __future__ import annotations

import pytest
from scripted.checks import check_near_best
from scripted.worlds import LINEAR, world_of
from support.scripted.direct import DirectEngine
from support.scripted.traffic import TrafficClass
from turbospec.sidecar.core.controller import EngineController
from turbospec.sidecar.core.steadiness import OFF_STEPS, STEADY_DECISIONS, STEADY_STEPS
from turbospec.sidecar.core.types import Reason

GOOD = (0.75, 0.75, 0.8)
POOR = (0.15,)


def engine_of(
    hazards: tuple[float, ...], *, seed: int = 1, policy: str = "goodput", availability: float = 1.0
) -> DirectEngine:
    """One long request after the other."""
    traffic = TrafficClass(hazards, output_tokens=2000, availability=availability)
    world = world_of(LINEAR, [traffic], 1, seed=seed, prefill=False)
    return DirectEngine(world, EngineController(world.capabilities, policy), keeps_back=True)


def test_steps_wait_after_the_same_decision_was_made_again_and_again() -> None:
    """Not while something is learned; a fixed policy learns nothing, but is not trusted at once either."""
    engine = engine_of(GOOD, policy="static:3")
    allowed = []
    for _ in range(STEADY_DECISIONS + 4):
        engine.step()
        allowed.append(engine.controller.decide().report_steps)
    assert set(allowed[:STEADY_DECISIONS]) == {1}
    assert allowed[-1] == STEADY_STEPS
    learning = engine_of(GOOD)
    for _ in range(60):
        learning.step()
        decision = learning.controller.decide()
        assert decision.report_steps == 1 or decision.reason is not Reason.LEARNING


def test_a_change_is_reported_at_once() -> None:
    """Another policy, a probe: the first decision that differs makes reports come step by step again."""
    engine = engine_of(GOOD, policy="static:3")
    engine.run(STEADY_DECISIONS + 8)
    assert engine.controller.decide().report_steps == STEADY_STEPS
    engine.controller.set_policy("static:2")
    assert engine.controller.decide().report_steps == 1


def test_most_steps_of_a_settled_engine_wait() -> None:
    """After learning there are half as many reports as steps, or fewer; probes are among them."""
    engine = engine_of(GOOD)
    engine.run(300)
    engine.reports = 0
    run = engine.run(1000)
    assert engine.reports < 500
    assert len(set(run.lengths)) >= 2


def test_shadow_mode_waits_for_nothing() -> None:
    """What is only looked at is looked at step by step."""
    engine = engine_of(GOOD, policy="static:3")
    engine.controller.set_shadow(True)
    engine.run(STEADY_DECISIONS + 8)
    assert engine.controller.decide().report_steps == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lengths_stay_the_best(seed: int) -> None:
    """With reports of several steps lengths are as near to the best as with one for each."""
    engine = engine_of(GOOD, seed=seed)
    engine.run(300)
    check_near_best(engine.run(1000), engine.world)


@pytest.mark.parametrize(("before", "after"), [(GOOD, POOR), (POOR, GOOD)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_shift_of_acceptance_is_followed(
    seed: int, before: tuple[float, ...], after: tuple[float, ...]
) -> None:
    """Drafts become bad, or good: some hundred steps later lengths are near the best again."""
    engine = engine_of(before, seed=seed)
    engine.run(500)
    engine.world.traffic[0].hazards = after
    engine.run(300)
    check_near_best(engine.run(700), engine.world)


def test_what_the_drafter_finds_is_learned_from_several_steps_too() -> None:
    """A drafter that proposes for every second step only: known to a few percent."""
    engine = engine_of(GOOD, availability=0.5)
    engine.run(2000)
    assert engine.reports < 1600
    assert engine.controller.acceptance().availability == pytest.approx(0.5, abs=0.08)


def test_without_the_drafter_more_steps_wait() -> None:
    """As soon as what such steps take is known."""
    world = world_of(LINEAR, [TrafficClass(POOR)], 16, prefill=False, deep_off=True)
    engine = DirectEngine(world, EngineController(world.capabilities, "off"), keeps_back=True)
    engine.run(60)
    assert engine.controller.decide().report_steps == OFF_STEPS
