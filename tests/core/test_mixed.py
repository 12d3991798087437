"""When steps with prompts are learned from, and that they leave what other steps taught alone."""

from __future__ import annotations

import pytest
from scripted.checks import prediction_errors
from scripted.worlds import AGREEING, LINEAR, world_of
from support.scripted.direct import DirectEngine
from turbospec.sidecar.core.mixed import LEAST_STEPS, WINDOW_STEPS, MixedSteps


def watch(pattern: list[bool]) -> list[bool]:
    """Whether prompts are constant, after each step; True: the step computed prompts."""
    steps, constant = MixedSteps(), []
    for mixed in pattern:
        steps.observe(mixed=mixed)
        constant.append(steps.constant)
    return constant


def test_a_burst_of_prompts_is_not_constant() -> None:
    """Fewer steps than it takes to know, or as many others around them."""
    assert not any(watch([True] * (LEAST_STEPS - 1)))
    assert not any(watch([False] * WINDOW_STEPS + [True] * (WINDOW_STEPS // 2)))
    assert not any(watch([True, True, False] * WINDOW_STEPS))


def test_constant_prompts_are_noticed_and_end() -> None:
    """Soon after they begin, and soon after they are over; one step without prompts changes nothing."""
    assert watch([True] * LEAST_STEPS)[-1]
    assert watch([False] * WINDOW_STEPS + [True] * WINDOW_STEPS)[-1]
    assert watch([True] * WINDOW_STEPS + [False] + [True] * WINDOW_STEPS).count(False) == LEAST_STEPS - 1
    assert not watch([True] * WINDOW_STEPS + [False] * (WINDOW_STEPS // 2))[-1]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_decode_steps_taught_is_left_alone(seed: int) -> None:
    """While prompts are constant, the costs of decode steps are not touched."""
    engine = DirectEngine(world_of(LINEAR, [AGREEING], 8, seed=seed, prefill=False))
    engine.run(300)
    before = prediction_errors(engine.controller, engine.world)
    model = engine.controller.latency()
    engine.world.compute_prompts(every_step=4000)
    engine.run(200)
    assert "prompt_tokens" in dict(engine.controller.latency().terms)
    engine.world.compute_prompts(every_step=0)
    while "prompt_tokens" in dict(engine.controller.latency().terms):
        engine.run(1)
    after = prediction_errors(engine.controller, engine.world)
    assert engine.controller.latency().evidence_steps == pytest.approx(model.evidence_steps, abs=16)
    assert after == pytest.approx(before, abs=0.03)
