"""A busy engine computes some prompt in nearly every step: there are hardly others to learn from."""

from __future__ import annotations

import pytest
from scripted.checks import check_near_best, check_predictions, prediction_errors
from scripted.worlds import AGREEING, world_of
from support.scripted.costs import Costs, linear
from support.scripted.direct import DirectEngine
from support.scripted.traffic import TrafficClass
from turbospec.sidecar.core.mixed import MixedSteps
from turbospec.sidecar.core.types import Disturbance

SEEDS = (1, 2, 3)
REQUESTS = 48
LEARNING_STEPS = 400

# Short answers: several requests end in each step, and as many prompts take their place.
GOOD = TrafficClass(AGREEING.hazards, output_tokens=24)
POOR = TrafficClass((0.2,), output_tokens=12)
# What a token costs beside what a step does, and how well the draft does; so the best length is 6, 1 and 0.
WORLDS = {
    "long": (Costs(linear(0.100, 0.0001), prefill_token=2e-5), GOOD),
    "short": (Costs(linear(0.020, 0.001), prefill_token=1e-4), GOOD),
    "none": (Costs(linear(0.020, 0.001), prefill_token=1e-4), POOR),
}


def engine_in(name: str, seed: int, *, deep_off: bool = False) -> DirectEngine:
    costs, traffic = WORLDS[name]
    return DirectEngine(world_of(costs, [traffic], REQUESTS, seed=seed, deep_off=deep_off))


def check_learns(name: str, seed: int) -> None:
    """After some hundred steps lengths are near the best."""
    engine = engine_in(name, seed)
    engine.run(LEARNING_STEPS)
    recording = engine.run(300)
    assert sum(step.disturbances == {Disturbance.PREFILL} for step in recording.steps) > 280
    check_near_best(recording, engine.world, mixed=True)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", WORLDS)
def test_lengths_are_learned_from_steps_with_prompts(name: str, seed: int) -> None:
    """The best length is found, whether it is long, short or 0."""
    check_learns(name, seed)


def test_without_learning_from_them_they_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: a controller that leaves such steps out finds some of these lengths in no way."""
    monkeypatch.setattr(MixedSteps, "observe", lambda *_, **__: None)
    failed = 0
    for name in WORLDS:
        try:
            check_learns(name, seed=1)
        except AssertionError:
            failed += 1
    assert failed


@pytest.mark.parametrize("name", ["long", "short"])
def test_step_times_are_told_apart_from_prompts(name: str) -> None:
    """What is predicted is the time of a step without its prompts, which no step shows: right to 10%."""
    engine = engine_in(name, seed=1)
    engine.run(LEARNING_STEPS)
    chosen = engine.controller.decide().proposal_length
    errors = prediction_errors(engine.controller, engine.world)
    check_predictions({length: errors[length] for length in errors if abs(length - chosen) <= 1}, within=0.1)


def test_the_drafter_is_skipped_where_nothing_pays() -> None:
    """Deep off needs no step without prompts either."""
    engine = engine_in("none", seed=1, deep_off=True)
    engine.run(LEARNING_STEPS)
    recording = engine.run(300)
    assert sum(step.shape.drafter_skipped for step in recording.steps) >= 200


def test_goodput_is_told() -> None:
    """What is shown of an engine that always computes prompts is not empty, and is right."""
    engine = engine_in("short", seed=1)
    engine.run(LEARNING_STEPS)
    goodput, latency = engine.controller.goodput(), engine.controller.latency()
    assert goodput.realised
    assert goodput.predicted == pytest.approx(goodput.realised, rel=0.15)
    assert dict(latency.terms)["prompt_tokens"] == pytest.approx(1e-4, rel=0.2)
    assert latency.model_error is not None
    assert latency.model_error < 0.1
