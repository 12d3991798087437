"""The cost model learns an engine's step times, and is not misled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted.costs import Costs, linear, uniform_shape
from support.scripted.hello import capabilities
from turbospec.sidecar.core.cost_features import StepShape
from turbospec.sidecar.core.latency import LatencyModel

TRUE = Costs(linear(0.02, 0.0008), draft_pass=0.002, draft_request=0.0)


def teach(model: LatencyModel, steps: int, speed: float = 1.0, seed: int = 0) -> None:
    """Steps at changing lengths and loads, with 5% one-sided noise."""
    draw = np.random.default_rng(seed)
    for _ in range(steps):
        n, k = int(draw.integers(1, 17)), int(draw.integers(0, 7))
        tokens, context = n * (1 + k), 200 * n
        seconds = speed * TRUE.seconds(uniform_shape(n, k)) * (1 + abs(draw.normal(0, 0.05)))
        model.observe(seconds, tokens, StepShape(context, n, k))


def test_steps_count_for_loads_of_their_size() -> None:
    """What is known of a length is known for about as many requests, not for a crowd."""
    model = LatencyModel(capabilities(6))
    model.observe(0.02, 8, StepShape(1600, 8, 0))
    assert [model.steps_at(requests, 0) for requests in (1, 5, 6, 8, 11, 12, 32)] == [0, 0, 1, 1, 1, 0, 0]
    assert model.steps_at(8, 1) == 0


def predict(model: LatencyModel, n: int, k: int) -> float:
    return float(model.step_seconds(np.array([float(n * (1 + k))]), StepShape(200 * n, n, k))[0])


def test_the_shape_is_learned() -> None:
    """Relative step times, which decide lengths, are right to 5% after 200 steps."""
    model = LatencyModel(capabilities())
    teach(model, 200)
    for n in (1, 4, 16):
        for k in (1, 2, 6):
            true = TRUE.seconds(uniform_shape(n, k)) / TRUE.seconds(uniform_shape(n, 0))
            assert predict(model, n, k) / predict(model, n, 0) == pytest.approx(true, rel=0.05)
    assert model.fitted
    assert model.model_error is not None
    assert model.model_error < 0.06


def test_the_first_draft_pass_may_be_free() -> None:
    """An engine that drafts at length 0 too shows no step from 0 to 1, but one from 1 to 2."""
    model = LatencyModel(capabilities())
    teach(model, 400)
    terms = dict(model.terms())
    assert terms["first_draft_pass"] < 0.75 * terms["further_draft_passes"]
    assert terms["further_draft_passes"] == pytest.approx(TRUE.draft_pass, rel=0.2)


def test_cold_start_is_pessimistic_about_drafts() -> None:
    """One measured step sets the scale; until then there is none."""
    model = LatencyModel(capabilities())
    assert not model.ready
    model.observe(0.05, 1, StepShape(100, 1, 0))
    assert model.ready
    assert not model.fitted
    assert predict(model, 1, 0) == pytest.approx(0.05, rel=0.05)
    assert predict(model, 1, 6) > 1.5 * predict(model, 1, 0)


@pytest.mark.parametrize("after", [50, 300])
def test_one_outlier_changes_nothing(after: int) -> None:
    """A step ten times as slow as it should be moves no prediction by 2%."""
    model, disturbed = LatencyModel(capabilities()), LatencyModel(capabilities())
    for each in (model, disturbed):
        teach(each, after)
    disturbed.observe(10 * TRUE.seconds(uniform_shape(2, 3)), 8, StepShape(400, 2, 3))
    for each in (model, disturbed):
        teach(each, 20, seed=1)
    for n in (1, 8):
        for k in (0, 3, 6):
            assert predict(disturbed, n, k) == pytest.approx(predict(model, n, k), rel=0.02)


@pytest.mark.parametrize("factor", [2.0, 0.5, 1.3])
def test_a_shift_of_speed_is_followed(factor: float) -> None:
    """After 200 steps on a slower or faster machine, predictions are right again to 10%."""
    model = LatencyModel(capabilities())
    teach(model, 1500)
    teach(model, 200, factor, seed=2)
    for n in (1, 8):
        for k in (0, 3, 6):
            typical = 1.04 * factor * TRUE.seconds(uniform_shape(n, k))
            assert predict(model, n, k) == pytest.approx(typical, rel=0.10)
    assert model.slowdown_ratio == pytest.approx(factor, rel=0.1)


def test_captured_graphs_make_a_staircase() -> None:
    """Between two captured sizes a further token is free."""
    model = LatencyModel(capabilities(graph_sizes=(1, 2, 4, 8, 16)))
    teach(model, 50)
    seconds = model.step_seconds(np.array([5.0, 8.0, 9.0]), StepShape(400, 2, 3))
    assert seconds[0] == seconds[1] < seconds[2]


def test_costs_are_never_negative_and_never_fall_with_tokens() -> None:
    """However wild the measurements, predictions stay positive and monotone."""
    model = LatencyModel(capabilities(ragged_breaks_graphs=True))
    draw = np.random.default_rng(7)
    for _ in range(200):
        n, k = int(draw.integers(1, 300)), int(draw.integers(0, 7))
        model.observe(float(draw.exponential(0.05)) + 1e-6, n * (1 + k), StepShape(n, n, k, bool(k % 2)))
    seconds = model.step_seconds(np.arange(1.0, 2000.0), StepShape(100, 4, 3, True))
    assert (seconds > 0).all()
    assert (np.diff(seconds) >= 0).all()
    assert all(value >= 0 for _, value in model.terms())


@given(
    seed=st.integers(0, 2**16),
    engine=st.fixed_dictionaries(
        {
            "graph_sizes": st.sampled_from([(), (1, 2, 4, 8, 16, 32), (8, 24)]),
            "deep_off": st.booleans(),
            "ragged_breaks_graphs": st.booleans(),
            "proposal_saves_draft_cost": st.booleans(),
        }
    ),
    mixed=st.booleans(),
    shape=st.builds(
        StepShape, st.integers(0, 100_000), st.integers(1, 64), st.integers(0, 6), ragged=st.booleans()
    ),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=7, unique=True).map(tuple),
)
@settings(max_examples=60)
def test_many_lengths_at_once_are_predicted_as_each_alone(
    seed: int, engine: dict[str, object], mixed: bool, shape: StepShape, lengths: tuple[int, ...]
) -> None:
    """All candidates in one call, several counts of tokens in one, and a single step: the same seconds."""
    model = LatencyModel(capabilities(**engine), mixed=mixed)
    draw = np.random.default_rng(seed)
    for _ in range(20):
        n, k = int(draw.integers(1, 64)), int(draw.integers(0, 7))
        taught = StepShape(int(draw.integers(0, 9000)), n, k, bool(draw.integers(2)))
        model.observe(float(draw.exponential(0.05)) + 1e-4, n * (1 + k), taught)
    # Expected counts of tokens are no whole numbers; the last ramp is among them.
    tokens = shape.requests * (1 + draw.uniform(0, 20, size=(len(lengths), 5)))
    together = model.steps_seconds(tokens, shape, lengths)
    assert together.shape == tokens.shape
    for row, counts, length in zip(together, tokens, lengths, strict=True):
        alone = replace(shape, proposal_length=length)
        np.testing.assert_allclose(row, model.step_seconds(counts, alone), rtol=1e-12)
        singly = [model.step_seconds(float(count), alone) for count in counts]
        np.testing.assert_allclose(row, singly, rtol=1e-12)
