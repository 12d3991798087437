"""What a controller must have found of a world. Each check fails by AssertionError, with the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from support.scripted.costs import Shape
from support.scripted.oracle import Efficiency, efficiency
from support.scripted.recording import Recording
from support.scripted.traffic import TrafficClass
from support.scripted.world import World
from turbospec.sidecar.core.controller import EngineController
from turbospec.sidecar.core.cost_features import CostFeatures, StepShape

# Tests of a position from which on its hazard must be known: luck is then 0.02 at most.
TESTS = 500.0


def check_hazards(found: Sequence[float], evidence: Sequence[float], told: TrafficClass) -> None:
    """Hazards are right to 0.04 wherever there was something to learn from, which includes position 1."""
    assert evidence[0] >= TESTS
    errors = {
        position: found[position] - told.hazard(position)
        for position in range(len(found))
        if evidence[position] >= TESTS
    }
    assert max(map(abs, errors.values())) < 0.04, errors


def check_near_best(
    recording: Recording, world: World, least: float = 0.95, *, mixed: bool = False
) -> Efficiency:
    """The lengths that were used give nearly what the best ones would have given to the same batches."""
    reached = efficiency(recording, world, mixed=mixed)
    assert reached.found > least * reached.best, (reached, recording.lengths)
    return reached


def prediction_errors(controller: EngineController, world: World) -> dict[int, float]:
    """Of the next step's time, for every proposal length: (predicted - typical) / typical.

    For worlds in which context costs nothing and ragged steps cost what others do.
    """
    decision = controller.decide()
    requests = decision.slots.size
    errors = {}
    for candidate in decision.candidates:
        tokens = requests + candidate.verified_tokens
        shape = Shape(requests, tokens, 0, candidate.proposal_length)
        typical = world.machine.typical_seconds(world.steps + 1, shape)
        errors[candidate.proposal_length] = candidate.step_seconds / typical - 1.0
    return errors


def error_at(shape: Shape, controller: EngineController, world: World) -> float:
    """Of the time of one more step like `shape`, under any policy: (predicted - typical) / typical."""
    features = CostFeatures(world.capabilities).row(
        shape.tokens,
        StepShape(
            shape.context_tokens, shape.requests, shape.proposal_length, shape.ragged, shape.drafter_skipped
        ),
    )
    predicted = float(features @ np.array([seconds for _, seconds in controller.latency().terms]))
    return predicted / world.machine.typical_seconds(world.steps + 1, shape) - 1.0


def check_predictions(errors: Mapping[int, float], within: float = 0.05) -> None:
    """Step times are predicted rightly, at every length."""
    assert errors
    assert max(map(abs, errors.values())) < within, errors


def check_unmoved(before: Mapping[int, float], after: Mapping[int, float], within: float = 0.01) -> None:
    """Predictions are as far from the truth as they were without what happened."""
    assert set(before) == set(after) != set()
    moved = {length: after[length] - before[length] for length in before}
    assert max(map(abs, moved.values())) < within, moved
