"""Over the real protocol the controller finds what the engine was told: hazards, costs, the best lengths."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean

import pytest
from scripted.checks import check_hazards, check_near_best
from scripted.worlds import AGREEING, CHATTING, COPYING, EVEN, LINEAR, with_graphs, world_of
from support.scripted.costs import Costs, Shape, linear
from support.scripted.engine import ScriptedEngine
from support.scripted.oracle import static_goodputs
from support.scripted.traffic import TrafficClass
from support.scripted.world import Step, World
from support.serving import Server

WARM_UP = 150


@contextmanager
def connected(world: World, server: Server, engine_id: str, lag: int = 1) -> Iterator[ScriptedEngine]:
    """An engine that has run for a while, and reports each step: waiting would be in real time."""
    with (
        ScriptedEngine(world, server.control, engine_id=engine_id, lag=lag) as engine,
        server.watched(engine_id),
    ):
        engine.run(WARM_UP)
        yield engine


def test_linear_costs(server: Server) -> None:
    """Told linear costs: hazards, step times and a length near the best are found, goodput is as good."""
    world = world_of(LINEAR, [AGREEING], 8)
    with connected(world, server, "linear") as engine:
        run = engine.run(500)
        state = server.engine("linear")
    check_hazards(state.acceptance.hazards, state.acceptance.evidence, AGREEING)
    check_near_best(run, world)
    static = static_goodputs(lambda: world_of(LINEAR, [AGREEING], 8, seed=2), 500)
    # 5% for the luck of some hundred steps.
    assert run.goodput > 0.95 * max(static.values()), static
    for candidate in state.last_decision.candidates:
        tokens = state.last_decision.requests + candidate.verified_tokens
        shape = Shape(state.last_decision.requests, tokens, 0, candidate.proposal_length)
        typical = world.machine.typical_seconds(world.steps, shape)
        assert candidate.predicted_step_seconds == pytest.approx(typical, rel=0.05)


def test_a_captured_size_is_filled_to_its_boundary(server: Server) -> None:
    """Six requests: length 3 fills a graph of 24 tokens, and is the best only because of that."""

    def staircase() -> World:
        return world_of(with_graphs(0.001, 0.004), [EVEN], 6, noise=0.02)

    def plain() -> World:
        return world_of(with_graphs(0.001, 0.004, sizes=()), [EVEN], 6, noise=0.02)

    assert _best(static_goodputs(staircase, 500)) == 3
    assert _best(static_goodputs(plain, 500)) < 3
    world = staircase()
    with connected(world, server, "staircase") as engine:
        run = engine.run(400)
        state = server.engine("staircase")
    check_hazards(state.acceptance.hazards, state.acceptance.evidence, EVEN)
    check_near_best(run, world)
    assert state.summary.model_error_ratio < 0.05
    assert Counter(step.shape.tokens for step in run.steps).most_common(1)[0][0] == 24
    with connected(plain(), server, "no-staircase") as engine:
        assert engine.run(300).mean_length < 2.5


def test_where_ragged_steps_are_dear_batches_stay_uniform(server: Server) -> None:
    """Requests differ much, but steps without a full graph take two and a half times as long."""
    world = world_of(with_graphs(0.0006, 0.015), [COPYING, CHATTING], 16, noise=0.02)
    with connected(world, server, "ragged-dear") as engine:
        run = engine.run(400)
    reached = check_near_best(run, world)
    assert reached.uniform > 0.999 * reached.best, "here uniform is the best"
    assert sum(step.shape.ragged for step in run.steps) < 0.1 * len(run.steps)


def test_where_ragged_steps_are_cheap_each_class_gets_its_own(server: Server) -> None:
    """The same requests, where they cost next to nothing: better by far than any length for all."""
    world = world_of(with_graphs(0.0006, 0.0005), [COPYING, CHATTING], 16, noise=0.02)
    with connected(world, server, "ragged-cheap") as engine:
        run = engine.run(400)
    reached = check_near_best(run, world)
    assert reached.found > 1.05 * reached.uniform, reached
    verified = _mean_verified(run.steps)
    assert verified["copying"] > 3.0 > 1.0 > verified["chatting"]


def test_a_drafter_that_does_not_pay_is_skipped(server: Server) -> None:
    """Told drafts that fail, on an engine that can skip its drafter: within 400 steps it is skipped, and
    those who run meanwhile are known to have missed it."""
    costs = Costs(linear(0.020, 0.001), draft_pass=0.003)
    traffic = TrafficClass((0.1,), output_tokens=60)
    world = world_of(costs, [traffic], 16, prefill=False, deep_off=True)
    with ScriptedEngine(world, server.control, engine_id="hopeless") as engine:
        while not engine.plan.skip_drafter:
            assert engine.step().number < 400
        run = engine.run(5)
        summary = server.engine("hopeless").summary
    assert all(run.skipped)
    assert summary.drafter_skipped
    assert summary.unready_requests == len(run.steps[-1].unready) > 0


def _best(goodputs: dict[int, float]) -> int:
    return max(goodputs, key=goodputs.__getitem__)


def _mean_verified(steps: Sequence[Step]) -> dict[str, float]:
    by_label: dict[str, list[int]] = defaultdict(list)
    for step in steps:
        for info, verified in zip(step.requests, step.verified, strict=True):
            by_label[info.label].append(verified)
    return {label: fmean(lengths) for label, lengths in by_label.items()}


@pytest.mark.parametrize("lag", [1, 2, 4])
def test_plans_that_come_late_are_near_the_best_too(server: Server, lag: int) -> None:
    """Steps run under plans made 1, 2 or 4 steps before, while requests enter and leave."""
    traffic = TrafficClass((0.75, 0.75, 0.8), output_tokens=100)
    world = world_of(LINEAR, [traffic], 8, lag=lag)
    with connected(world, server, f"lag-{lag}", lag) as engine:
        run = engine.run(400)
        state = server.engine(f"lag-{lag}")
    assert state.summary.plan_age_steps == lag
    assert sum(len(step.left) for step in run.steps) > 60
    check_hazards(state.acceptance.hazards, state.acceptance.evidence, traffic)
    check_near_best(run, world)
