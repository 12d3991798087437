"""What steps took is kept by kind, and a controller that starts from it knows what took long to learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.scripted.costs import Costs, linear, uniform_shape
from support.scripted.direct import DirectEngine
from support.scripted.hello import capabilities
from support.scripted.machine import Machine
from support.scripted.traffic import TrafficClass
from support.scripted.world import World
from turbospec.sidecar.core.controller import EngineController
from turbospec.sidecar.core.cost_cells import MOST_CELLS, CostCells
from turbospec.sidecar.core.cost_features import StepShape
from turbospec.sidecar.core.latency import LatencyModel
from turbospec.sidecar.core.types import CostCell, Reason

TRUTH = Costs(linear(0.01, 0.0015), draft_pass=0.0015)
SHAPE = StepShape(2000, 8, 3)


def seconds(model: LatencyModel, tokens: int, shape: StepShape) -> float:
    return float(model.step_seconds(np.array([float(tokens)]), shape)[0])


def lived() -> tuple[CostCell, ...]:
    """The cells of an engine that has seen 8 requests for a while."""
    engine = world(8)
    engine.run(400)
    return engine.controller.cost_cells()


def world(concurrency: int) -> DirectEngine:
    return DirectEngine(
        World(capabilities(6), [TrafficClass((0.65,), output_tokens=40)], concurrency, Machine(TRUTH))
    )


def started_from(cells: tuple[CostCell, ...], *, same_engine: bool) -> EngineController:
    controller = EngineController(capabilities(6))
    controller.start_from(cells, same_engine=same_engine)
    return controller


def test_a_cell_is_the_median_of_its_steps() -> None:
    """One step in ten that takes ten times as long changes neither location nor spread much."""
    cells = CostCells()
    for i in range(40):
        cells.add(0.5 if i % 10 == 0 else 0.050 + 0.0001 * (i % 3), 20, SHAPE)
    (cell,) = cells.cells()
    assert (cell.requests, cell.target_tokens, cell.context_tokens, cell.steps) == (8, 20, 2000, 40)
    assert cell.seconds == pytest.approx(0.050, rel=0.01)
    assert cell.spread_seconds < 0.001


def test_kinds_are_kept_apart_and_bounded() -> None:
    """Lengths, widths and the drafter make kinds of their own; the longest unseen makes room for another."""
    cells = CostCells()
    for shape in (SHAPE, replace(SHAPE, ragged=True), replace(SHAPE, proposal_length=2)):
        for _ in range(3):
            cells.add(0.05, 20, shape)
    assert len(cells.cells()) == 3
    for requests in range(1, 80):
        for length in range(60):
            for _ in range(3):
                cells.add(0.05, requests, StepShape(1 << (length % 20), requests, length))
    assert len(cells.cells()) == MOST_CELLS


def test_what_was_kept_and_what_came_since_are_one() -> None:
    """Cells taken over from a profile grow with new steps."""
    first = CostCells()
    for _ in range(10):
        first.add(0.05, 20, SHAPE)
    second = CostCells()
    second.load(first.cells())
    for _ in range(5):
        second.add(0.06, 20, SHAPE)
    (cell,) = second.cells()
    assert cell.steps == 15
    assert cell.seconds == pytest.approx(0.06)


def test_an_engine_of_the_same_kind_learns_nothing_anew() -> None:
    """It predicts as well as the one before it, and does not walk over the lengths at that batch size."""
    controller = started_from(lived(), same_engine=True)
    model = controller._latency
    for length in (0, 1, 2):
        shape = StepShape(8 * 250, 8, length)
        truth = TRUTH.seconds(uniform_shape(8, length))
        assert seconds(model, 8 * (1 + length), shape) == pytest.approx(truth, rel=0.1)
    engine = world(8)
    engine.controller = controller
    reasons = [engine.step()[0].reason for _ in range(60)]
    assert Reason.LEARNING not in reasons[2:]


def test_without_a_profile_it_does_walk() -> None:
    """The control."""
    engine = world(8)
    assert Reason.LEARNING in [engine.step()[0].reason for _ in range(60)][2:]


def test_a_prior_lends_its_shape_and_not_its_speed() -> None:
    """An engine four times as fast as the similar one that was measured is believed after three steps."""
    controller = started_from(lived(), same_engine=False)
    model = controller._latency
    for _ in range(3):
        model.observe(TRUTH.seconds(uniform_shape(8, 1)) / 4, 16, StepShape(2000, 8, 1))
    truth = TRUTH.seconds(uniform_shape(8, 2)) / 4
    assert seconds(model, 24, StepShape(2000, 8, 2)) == pytest.approx(truth, rel=0.15)
    engine = world(8)
    engine.controller = started_from(lived(), same_engine=False)
    assert Reason.LEARNING in [engine.step()[0].reason for _ in range(60)][2:]
