"""Steps of batch sizes and lengths that were never timed before teach at once, and mislead nobody."""

from __future__ import annotations

import numpy as np
import pytest
from turbospec.sidecar.core.cost_features import StepShape
from turbospec.sidecar.core.exploration import CONTESTED_HOLD_STEPS, LearningSchedule
from turbospec.sidecar.core.latency import LatencyModel
from turbospec.sidecar.core.types import Capabilities

CAPABILITIES = Capabilities(max_length=4, static_length=2, candidate_lengths=(0, 1, 2, 3, 4))
ALONE, CROWD = StepShape(300, 1, 1), StepShape(32 * 300, 32, 1)


def known(seconds: float = 0.015) -> LatencyModel:
    """A model that has seen one request at length 1 for long."""
    model = LatencyModel(CAPABILITIES)
    for _ in range(200):
        model.observe(seconds, 2, ALONE)
    return model


def predicted(model: LatencyModel, tokens: int, shape: StepShape) -> float:
    return float(model.step_seconds(np.array([float(tokens)]), shape)[0])


def test_three_steps_of_another_batch_size_are_enough() -> None:
    """A crowd whose steps take several times what was extrapolated is believed after three of them."""
    model = known()
    assert predicted(model, 64, CROWD) < 0.08
    for _ in range(3):
        model.observe(0.16, 64, CROWD)
    assert predicted(model, 64, CROWD) == pytest.approx(0.16, rel=0.1)


def test_what_is_new_is_not_taken_for_a_slower_machine() -> None:
    """However far a crowd's steps are from the guess, what one request costs stays as it was measured."""
    model = known()
    for length in (0, 1, 2, 3, 4):
        for _ in range(8):
            model.observe(0.06 + 0.05 * length, 32 * (1 + length), StepShape(32 * 300, 32, length))
    assert model.slowdown_ratio == pytest.approx(1.0, rel=0.05)
    assert predicted(model, 2, ALONE) == pytest.approx(0.015, rel=0.05)


def test_a_slower_machine_is_still_noticed() -> None:
    """The control: where known steps take longer, it is the machine."""
    model = known()
    for _ in range(60):
        model.observe(1.3 * 0.015, 2, ALONE)
    assert model.slowdown_ratio == pytest.approx(1.3, rel=0.05)
    assert predicted(model, 2, ALONE) == pytest.approx(1.3 * 0.015, rel=0.05)


@pytest.mark.parametrize("outlier_at", [0, 1, 2, 5])
def test_an_outlier_among_the_first_steps_is_told_from_the_others(outlier_at: int) -> None:
    """One of a new batch size's steps takes ten times as long: the others outvote it."""
    model = known()
    for step in range(8):
        model.observe(1.6 if step == outlier_at else 0.16, 64, CROWD)
    assert predicted(model, 64, CROWD) == pytest.approx(0.16, rel=0.1)


def test_lengths_that_come_close_are_looked_at_for_longer() -> None:
    """After the walk, lengths within a tenth of the best are held on; hopeless ones and the best are not."""
    seen = dict.fromkeys(range(5), 3)
    schedule = LearningSchedule((0, 1, 2, 3, 4), 2, seen.__getitem__)
    assert schedule.walked
    schedule.contest({0: 70.0, 1: 95.0, 2: 100.0, 3: 93.0, 4: 80.0}, requests=32)
    held = []
    while not schedule.done:
        held.append(schedule.length)
        schedule.advance(timed=True)
    assert held == [1] * (CONTESTED_HOLD_STEPS - 3) + [3] * (CONTESTED_HOLD_STEPS - 3)
    assert not schedule.walked
