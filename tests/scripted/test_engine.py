"""The scripted engine does what it was told: else whatever is found with it says nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from statistics import fmean, median

import numpy as np
import pytest
from scripted.worlds import AGREEING, CHATTING, COPYING, EVEN, LINEAR, with_graphs, world_of
from support.scripted.costs import Costs, Shape, linear, piecewise, uniform_shape
from support.scripted.direct import DirectEngine
from support.scripted.engine import NoPlanError, ScriptedEngine
from support.scripted.hello import capabilities
from support.scripted.machine import Machine, SlowStep, drift, shift
from support.scripted.oracle import expected_tokens, static_goodputs
from support.scripted.recording import Recording, run_fixed
from support.scripted.traffic import TrafficClass
from support.scripted.world import Plan, Step, World, uniform_plan
from support.serving import Server
from turbospec.sidecar.core.types import Disturbance


def check_frequencies(recording: Recording, told: TrafficClass) -> None:
    """At each position, of the drafts that were tested as many are accepted as was told, to 4 sigma."""
    verified = np.array([count for step in recording.steps for count in step.verified])
    accepted = np.array([count for step in recording.steps for count in step.accepted])
    for position in range(verified.max()):
        tested = (verified > position) & (accepted >= position)
        hazard, tests = told.hazard(position), tested.sum()
        sigma = (hazard * (1 - hazard) / tests) ** 0.5
        assert abs((accepted[tested] > position).mean() - hazard) < 4 * sigma, position


def check_times(recording: Recording, costs: Costs, noise: float, slow_rate: float) -> None:
    """Step times lie above what is stated, and in the mean and the median by as much as was told."""
    ratios = [step.seconds / costs.seconds(step.shape) for step in recording.steps]
    assert min(ratios) >= 1.0
    # The mean of |N(0, 1)|, and of slow steps three times that.
    assert fmean(ratios) == pytest.approx((1 + 0.798 * noise) * (1 + 2 * slow_rate), rel=0.01)
    assert median(ratios) == pytest.approx(1 + 0.6745 * noise, rel=0.01)


def test_acceptance_is_as_told() -> None:
    """Frequencies by position match; a world told otherwise does not pass for this one."""
    told = TrafficClass((0.8, 0.6, 0.9))
    recording = run_fixed(world_of(LINEAR, [told], 8), uniform_plan(5), 1500)
    check_frequencies(recording, told)
    with pytest.raises(AssertionError):
        check_frequencies(recording, TrafficClass((0.8, 0.65, 0.9)))


def test_step_times_are_as_told() -> None:
    """Times match the costs, at changing lengths; costs that were not told do not pass."""
    costs = with_graphs(0.001, 0.004)
    world = world_of(costs, [EVEN], 6, noise=0.1, outlier_rate=0.02)
    recording = Recording([world.step(uniform_plan(i % 7)) for i in range(4000)])
    check_times(recording, costs, 0.1, 0.02)
    with pytest.raises(AssertionError):
        check_times(recording, with_graphs(0.0011, 0.004), 0.1, 0.02)


def test_costs_by_hand() -> None:
    """Each part of a step's time, from a shape that isolates it."""
    costs = Costs(
        linear(0.010, 0.001, (8, 16)),
        linear(0.030, 0.002),
        draft_pass=0.002,
        draft_request=0.0001,
        context_token=1e-6,
        prefill_token=1e-5,
    )

    def seconds(tokens: int, length: int = 0, **more: object) -> float:
        return costs.seconds(Shape(4, tokens, 0, length, **more))  # type: ignore[arg-type]

    one_pass = 0.002 + 4 * 0.0001
    assert seconds(4) == seconds(8) == pytest.approx(0.010 + 0.008 + one_pass), "inside a size it is free"
    assert seconds(9) == pytest.approx(0.010 + 0.016 + one_pass)
    assert seconds(17) == pytest.approx(0.010 + 0.017 + one_pass), "above the last size nothing is padded"
    assert seconds(8, 1) == seconds(8, 0), "at length 0 the drafter runs once too"
    assert seconds(8, 3) == pytest.approx(0.018 + 3 * one_pass)
    assert seconds(8, drafter_skipped=True) == pytest.approx(0.018)
    assert seconds(9, 2, ragged=True) == pytest.approx(0.030 + 0.018 + 2 * one_pass)
    assert seconds(8, prefill_tokens=100) == pytest.approx(0.030 + 0.016 + one_pass + 0.001)
    assert costs.seconds(Shape(4, 8, 1000, 0)) == pytest.approx(seconds(8) + 0.001)
    no_idle = Costs(linear(0.010, 0.001), draft_pass=0.002, draft_request=0.0, idle_drafts=False)
    assert no_idle.seconds(uniform_shape(4, 0)) == pytest.approx(0.014)
    assert no_idle.seconds(uniform_shape(4, 2)) == pytest.approx(0.010 + 0.012 + 0.004)


def test_measured_curves() -> None:
    """Between the points that were measured there are straight lines, padding comes first."""
    padded = piecewise({1: 0.010, 8: 0.017, 16: 0.019}, sizes=(8, 16))
    seconds = [padded.seconds(tokens) for tokens in (3, 8, 9, 16, 40)]
    assert seconds == pytest.approx([0.017, 0.017, 0.019, 0.019, 0.019])
    assert piecewise({1: 0.010, 8: 0.017}).seconds(3) == pytest.approx(0.012)


def test_machines_change_speed_when_told() -> None:
    """A shift, a drift and single slow steps come at their step, and flags with them."""
    slow = {5: SlowStep(10.0), 6: SlowStep(4.0, Disturbance.PREEMPTION)}

    def ratios(**machine: object) -> list[float]:
        world = world_of(LINEAR, [EVEN], 2, prefill=False, noise=0.0, outlier_rate=0.0, **machine)
        steps = run_fixed(world, uniform_plan(2), 8).steps
        assert [step.number for step in steps if step.disturbances] == (
            [6] if "slow_steps" in machine else []
        )
        return [round(step.seconds / step.stated_seconds, 6) for step in steps]

    assert ratios(slow_steps=slow) == [1, 1, 1, 1, 10, 4, 1, 1]
    assert ratios(speed=shift(4, 1.3)) == [1, 1, 1, 1.3, 1.3, 1.3, 1.3, 1.3]
    assert ratios(speed=drift(2, 6, 16.0)) == [1, 1, 2, 4, 8, 16, 16, 16]


def test_requests_come_and_go() -> None:
    """As many as was said are live, each enters and leaves once, and they are as long as was told."""
    world = world_of(LINEAR, [TrafficClass((0.7,), output_tokens=40)], 8)
    steps = run_fixed(world, uniform_plan(3), 1500).steps
    live: set[str] = set()
    for step in steps:
        entered = {info.request_id for info in step.entered}
        assert not entered & live
        live |= entered
        assert len(live) == 8 == step.shape.requests
        assert {info.request_id for info in step.requests} <= live
        live -= {info.request_id for info in step.left}
    left = sum(len(step.left) for step in steps)
    assert sum(step.emitted_tokens for step in steps) / left == pytest.approx(40, rel=0.05)


def test_prompts_are_computed_in_steps_of_their_own_kind() -> None:
    """A request enters with its prompt, in a step that says so; it has drafts from the next step on."""
    world = world_of(LINEAR, [TrafficClass((0.7,), output_tokens=40)], 4)
    before: Step | None = None
    for step in run_fixed(world, uniform_plan(3), 200).steps:
        assert step.shape.prefill_tokens == sum(info.prompt_tokens for info in step.entered)
        assert step.disturbances == ({Disturbance.PREFILL} if step.entered else set())
        assert not {*step.entered} & {*step.requests}
        assert set(step.proposed) <= {3}
        if before is not None:
            assert {*before.entered} - {*before.left} <= {*step.requests}
        before = step


def test_drafters_that_find_nothing_and_callers_who_say_no() -> None:
    """Drafts are there as often as told, and a caller's cap holds whatever a plan wants."""
    told = [TrafficClass((0.9,), availability=0.3), TrafficClass((0.9,), max_draft=1, label="capped")]
    steps = run_fixed(world_of(LINEAR, told, 8, seed=3), uniform_plan(4), 1500).steps
    verified: dict[str, list[int]] = {"": [], "capped": []}
    for step in steps[1:]:
        for info, count in zip(step.requests, step.verified, strict=True):
            verified[info.label].append(count)
    assert set(verified[""]) == {0, 4}
    assert fmean(count > 0 for count in verified[""]) == pytest.approx(0.3, abs=0.03)
    assert set(verified["capped"]) == {1}


def test_a_skipped_drafter_leaves_gaps() -> None:
    """Who ran meanwhile never speculates again; who enters afterwards does."""
    world = World(capabilities(deep_off=True), [TrafficClass((0.7,), output_tokens=40)], 4)
    skipped = Plan(0, lambda _: 0, skip_drafter=True)
    gap = {info.request_id for step in (world.step(skipped), world.step(skipped)) for info in step.unready}
    assert len(gap) == 4
    speculated = set()
    for step in run_fixed(world, uniform_plan(3), 100).steps:
        rows = zip(step.requests, step.verified, strict=True)
        speculated |= {info.request_id for info, verified in rows if verified}
    assert speculated
    assert not speculated & gap


def test_impossible_plans_are_refused() -> None:
    """A world does not run what its engine could not."""
    world = World(capabilities(4, candidate_lengths=(0, 2, 4)), [EVEN], 2)
    with pytest.raises(ValueError, match=r"proposal_length 3 is none of \(0, 2, 4\)"):
        world.step(uniform_plan(3))
    with pytest.raises(ValueError, match="skip_drafter"):
        world.step(Plan(0, lambda _: 0, skip_drafter=True))


def test_the_same_seed_gives_the_same_steps() -> None:
    """Whatever the machine: twins differ in their times only."""

    def steps(**machine: object) -> list[tuple[object, ...]]:
        run = run_fixed(world_of(LINEAR, [COPYING, CHATTING], 8, **machine), uniform_plan(3), 300)
        return [(step.shape, step.requests, step.accepted, step.left) for step in run.steps]

    assert steps() == steps(speed=shift(10, 2.0), slow_steps={7: SlowStep(10.0)}, noise=0.3)


def test_the_oracle_agrees_with_the_world() -> None:
    """Expected tokens over stated seconds are what a world without a controller really gives."""
    quiet = {"noise": 0.0, "outlier_rate": 0.0, "prefill": False}
    simulated = static_goodputs(lambda: world_of(LINEAR, [AGREEING], 8, **quiet), 2000)  # type: ignore[arg-type]
    for length, goodput in simulated.items():
        expected = 8 * expected_tokens(AGREEING, length) / LINEAR.seconds(uniform_shape(8, length))
        # Requests that come have no drafts yet, those that go had more than they needed.
        assert goodput == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("lag", [1, 3])
def test_over_the_protocol_nothing_is_lost(server: Server, lag: int) -> None:
    """Connected by protocol or directly, the same world and controller take the same steps, every time."""

    def make() -> World:
        return world_of(with_graphs(0.0006, 0.002), [COPYING, CHATTING], 8, lag=lag)

    direct = DirectEngine(make(), lag=lag).run(200)
    for attempt in range(2):
        engine_id = f"repeated-{lag}-{attempt}"
        with ScriptedEngine(make(), server.control, engine_id=engine_id, lag=lag) as engine:
            run = engine.run(200)
            assert engine.client.counters().coalesced_steps == 0
            assert set(engine.client.fallbacks()) <= {"DISCONNECTED", "NO_PLAN"}
            assert server.engine(engine_id).summary.plan_age_steps == lag
        assert [step.shape for step in run.steps] == [step.shape for step in direct.steps]
        assert [step.accepted for step in run.steps] == [step.accepted for step in direct.steps]


def test_a_controller_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The engine does not wait for ever, and says what it knows."""
    world = world_of(LINEAR, [EVEN], 2)
    with pytest.raises(NoPlanError, match=r"no plan for step 0 within 0\.3 s.* connected: False"):
        ScriptedEngine(world, f"unix:{tmp_path / 'nobody.sock'}", patience=0.3)


def test_a_controller_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """A run whose connection broke cannot be repeated, so it does not go on."""
    server = Server(tmp_path)
    try:
        with ScriptedEngine(world_of(LINEAR, [EVEN], 2), server.control) as engine:
            engine.run(5)
            server.stop(signal.SIGKILL)
            with pytest.raises(NoPlanError, match="connection was lost"):
                engine.run(5)
    finally:
        server.stop()


def test_recordings_can_be_kept(tmp_path: Path) -> None:
    """A recording's lines hold each step's shape, time and tokens, and add up to its goodput."""
    run = run_fixed(world_of(LINEAR, [EVEN], 4), uniform_plan(2), 50)
    run.write(tmp_path / "run.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 51))
    assert sum(row["emitted_tokens"] for row in rows) / sum(row["seconds"] for row in rows) == run.goodput
    assert rows[0]["disturbances"] == ["prefill"]
    assert all(row["tokens"] == row["decoding"] + row["verified"] for row in rows)
    by_tokens = run.seconds_by(lambda shape: shape.tokens)
    assert sum(map(len, by_tokens.values())) == sum(not row["disturbances"] for row in rows)
    assert Machine(LINEAR).typical_seconds(1, run.steps[-1].shape) == pytest.approx(
        median(by_tokens[run.steps[-1].shape.tokens]), rel=0.05
    )
