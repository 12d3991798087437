"""The controller keeps every promise about lengths, and refuses impossible data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted.direct import to_observation, to_plan
from support.scripted.hello import capabilities
from support.scripted.traffic import TrafficClass
from support.scripted.world import World
from turbospec.sidecar.core.controller import EngineController
from turbospec.sidecar.core.errors import ObservationError, PolicyError
from turbospec.sidecar.core.policies import parse_policy
from turbospec.sidecar.core.types import (
    Capabilities,
    Decision,
    Disturbance,
    Observation,
    Reason,
    RequestInfo,
)

POLICIES = ("goodput", "off", "idle", "static:2", "turbospec-2024", "random:7")


@st.composite
def any_capabilities(draw: st.DrawFn) -> Capabilities:
    longest = draw(st.integers(2, 7))
    lengths = draw(st.sets(st.integers(0, longest), min_size=1)) | {longest}
    return capabilities(
        longest,
        static_length=draw(st.integers(0, longest)),
        candidate_lengths=tuple(sorted(lengths)),
        proposal_settable=draw(st.booleans()),
        proposal_saves_draft_cost=draw(st.booleans()),
        verification_per_request=draw(st.booleans()),
        ragged_breaks_graphs=draw(st.booleans()),
        graph_sizes=draw(st.sampled_from([(), (1, 2, 4, 8, 16)])),
    )


def check(plan: Decision, engine: Capabilities, caps: dict[int, int], operator: int | None) -> None:
    top = engine.max_length if operator is None else operator
    if engine.proposal_settable:
        assert plan.proposal_length in engine.candidate_lengths
        assert plan.proposal_length <= max(top, engine.candidate_lengths[0])
    else:
        assert plan.proposal_length == engine.max_length
    bound = min(plan.proposal_length, top)
    assert 0 <= plan.default_verification_length <= bound
    assert len(set(plan.slots.tolist())) == plan.slots.size == plan.verification_lengths.size
    for slot, v in zip(plan.slots.tolist(), plan.verification_lengths.tolist(), strict=True):
        assert 0 <= v <= min(bound, caps[slot])
    assert {slot for slot, cap in caps.items() if cap < engine.max_length} <= set(plan.slots.tolist())
    if not engine.verification_per_request:
        assert len({*plan.verification_lengths.tolist(), plan.default_verification_length}) == 1
    assert plan.explanation


@given(any_capabilities(), st.sampled_from(POLICIES), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_no_plan_is_outside_capabilities_and_caps(engine: Capabilities, policy: str, seed: int) -> None:
    """Whatever the engine, the policy and the stream: lengths are possible, and no cap is exceeded."""
    draw = np.random.default_rng(seed)
    traffic = [
        TrafficClass((0.9,), output_tokens=12, label="a"),
        TrafficClass((0.2,), output_tokens=20, availability=0.5, max_draft=int(draw.integers(0, 3))),
    ]
    world = World(engine, traffic, int(draw.integers(1, 6)), seed=seed)
    controller = EngineController(engine, policy)
    caps: dict[int, int] = {}
    operator: int | None = None
    check(controller.decide(), engine, caps, operator)
    for _ in range(50):
        if draw.random() < 0.05:
            operator = int(draw.integers(0, engine.max_length + 1)) if draw.random() < 0.7 else None
            controller.set_cap(operator)
        observation = to_observation(world.step(to_plan(controller.decide(), world.live)))
        if draw.random() < 0.2:
            observation = replace(observation, disturbances=frozenset({Disturbance.PREFILL}))
        if draw.random() < 0.2:
            observation = replace(observation, duration=None)
        for info in observation.opened:
            caps[info.slot] = engine.max_length if info.max_draft is None else info.max_draft
        for slot in observation.closed_slots:
            del caps[slot]
        controller.observe(observation)
        check(controller.decide(), engine, caps, operator)


@pytest.mark.parametrize("policy", POLICIES)
def test_same_inputs_same_plans(policy: str) -> None:
    """Two controllers that saw the same say the same, and asking twice changes nothing."""
    worlds = [World(capabilities(), [TrafficClass(output_tokens=40)], 4) for _ in range(2)]
    controllers = [EngineController(capabilities(), policy) for _ in range(2)]
    for _ in range(120):
        first, second = (controller.decide() for controller in controllers)
        assert controllers[0].decide() is first
        assert first.explanation == second.explanation
        assert first.candidates == second.candidates
        assert first.verification_lengths.tolist() == second.verification_lengths.tolist()
        for world, controller, plan in zip(worlds, controllers, (first, second), strict=True):
            controller.observe(to_observation(world.step(to_plan(plan, world.live))))


def opened(slot: int, **changes: object) -> RequestInfo:
    return RequestInfo(slot, f"r{slot}", **changes)  # type: ignore[arg-type]


def observation(sequence: int = 1, **changes: object) -> Observation:
    settings: dict[str, object] = {
        "sequence": sequence,
        "duration": 0.02,
        "requests": 2,
        "slots": np.array([0, 1]),
        "proposed": np.array([3, 3]),
        "verified": np.array([3, 2]),
        "accepted": np.array([1, 2]),
        "context_tokens": np.array([10, 20]),
        "proposal_length": 3,
        "emitted_tokens": 5,
        "opened": (opened(0), opened(1)) if sequence == 1 else (),
    }
    return Observation(**{**settings, **changes})  # type: ignore[arg-type]


IMPOSSIBLE = {
    "sequence": {"sequence": 1},
    "slots": {"slots": np.array([0, 9])},
    "slots ": {"slots": np.array([0, 0])},
    "slots  ": {"slots": np.array([0, -1])},
    "proposed": {"proposed": np.array([3, 7])},
    "proposed ": {"proposed": np.array([3])},
    "verified": {"verified": np.array([3, 4])},
    "accepted": {"accepted": np.array([4, 2])},
    "accepted ": {"accepted": np.array([-1, 2])},
    "context_tokens": {"context_tokens": np.array([-1, 2])},
    "proposal_length": {"proposal_length": 7},
    "duration": {"duration": -0.1},
    "duration ": {"duration": float("nan")},
    "duration  ": {"duration": float("inf")},
    "requests": {"requests": 1000},
    "steps": {"steps": 0},
    "emitted_tokens": {"emitted_tokens": -1},
    "kv_cache_usage": {"kv_cache_usage": 1.5},
    "opened.slot": {"opened": (opened(1),)},
    "opened.slot ": {"opened": (opened(5), opened(5))},
    "opened.slot  ": {"opened": (opened(10**9),)},
    "opened.max_draft": {"opened": (opened(5, max_draft=-1),)},
    "closed_slots": {"closed_slots": (7,)},
    "closed_slots ": {"closed_slots": (1, 1)},
}


@pytest.mark.parametrize(("field", "changes"), IMPOSSIBLE.items(), ids=IMPOSSIBLE.keys())
def test_impossible_data_is_refused_whole(field: str, changes: dict[str, object]) -> None:
    """An impossible report is an error that names the field, and leaves no trace."""
    controller, untouched = EngineController(capabilities()), EngineController(capabilities())
    for each in (controller, untouched):
        each.observe(observation())
    with pytest.raises(ObservationError) as error:
        controller.observe(observation(**{"sequence": 2, **changes}))
    assert error.value.field == field.strip()
    assert controller.acceptance().hazards.tolist() == untouched.acceptance().hazards.tolist()
    assert controller.latency() == untouched.latency()
    for each in (controller, untouched):
        each.observe(observation(2))
    assert controller.decide().explanation == untouched.decide().explanation
    assert controller.acceptance().evidence.tolist() == untouched.acceptance().evidence.tolist()


@given(
    st.lists(st.tuples(st.floats(-9, 3.5), st.sampled_from([1, 1, 1, 1_000_000])), min_size=20, max_size=80),
    st.sampled_from(["goodput", "turbospec-2024"]),
)
@settings(max_examples=60, deadline=None)
def test_no_possible_times_break_predictions(steps: list[tuple[float, int]], policy: str) -> None:
    """Steps of a nanosecond or an hour, and hours of them coalesced: predictions stay finite and above 0."""
    controller = EngineController(capabilities(), policy)
    for sequence, (magnitude, coalesced) in enumerate(steps, start=1):
        controller.observe(observation(sequence, duration=10.0**magnitude, steps=coalesced))
        plan = controller.decide()
        assert all(np.isfinite(seconds) and seconds >= 0 for _, seconds in controller.latency().terms)
        for predicted in (plan.predicted_goodput, controller.goodput().idle):
            assert predicted is None or (np.isfinite(predicted) and predicted > 0)
        assert 0 < controller.acceptance().request_variance < np.inf


def test_a_length_that_is_not_allowed_is_explained() -> None:
    """Whoever sees a shorter length than the policy's reads why."""
    controller = EngineController(capabilities(6), "static:5")
    controller.observe(observation())
    assert controller.decide().explanation == "policy static:5: length 5 for every request"
    controller.set_cap(2)
    plan = controller.decide()
    assert plan.proposal_length == 2
    assert plan.explanation.endswith("; proposing 2, the nearest that engine, operator and callers allow")


def test_coalesced_steps_may_name_a_slot_twice() -> None:
    """Summed reports teach acceptance, but no step time."""
    controller = EngineController(capabilities())
    controller.observe(observation(slots=np.array([0, 0]), steps=2))
    assert controller.latency().evidence_steps == 0
    assert controller.acceptance().evidence[0] == 2
    assert controller.request(0).verified == 5


def test_disturbed_steps_do_not_teach_step_time() -> None:
    """Prefill, preemption, idling before and grammar stay out of the cost model; so does no duration."""
    controller = EngineController(capabilities())
    for i, disturbance in enumerate(Disturbance, start=1):
        controller.observe(observation(i, disturbances=frozenset({disturbance})))
    controller.observe(observation(9, duration=None))
    assert controller.latency().evidence_steps == 0
    assert controller.goodput().realised is None


@pytest.mark.parametrize("policy", POLICIES)
def test_callers_who_all_say_no(policy: str) -> None:
    """When every caller asked for no speculation there is none, whatever the policy."""
    controller = EngineController(capabilities(), policy)
    controller.observe(observation(opened=(opened(0, max_draft=0), opened(1, max_draft=0))))
    plan = controller.decide()
    assert plan.reason is Reason.CALLER_OFF
    assert plan.proposal_length == 0
    assert not plan.verification_lengths.any()


def test_no_requests() -> None:
    """With nothing running the plan says so, and still fits a request that comes."""
    controller = EngineController(capabilities(), "static:2")
    assert controller.decide().reason is Reason.NO_REQUESTS
    assert controller.decide().default_verification_length == 2
    controller.observe(observation(closed_slots=(0, 1)))
    assert controller.decide().reason is Reason.NO_REQUESTS
    assert not controller.decide().slots.size


def test_closed_slots_come_after_the_arrays_and_are_forgotten() -> None:
    """A request may decode and leave in one report; the next in its slot starts fresh."""
    controller = EngineController(capabilities(), "static:4")
    for i in range(1, 30):
        controller.observe(observation(i, accepted=np.array([0, 0])))
    controller.observe(observation(30, closed_slots=(0,)))
    with pytest.raises(KeyError):
        controller.request(0)
    controller.open_request(RequestInfo(0, "next"))
    assert controller.request(0).verified == 0
    assert controller.request(0).survivals == pytest.approx(controller.acceptance().survivals)


def test_a_request_stands_out_in_its_snapshot() -> None:
    """What a person sees of a request: its length in the plan, its totals, its own hazards."""
    controller = EngineController(capabilities(), "static:4")
    controller.observe(observation())
    controller.decide()
    snapshot = controller.request(1)
    assert (snapshot.verified, snapshot.accepted, snapshot.verification_length) == (2, 2, 4)
    assert controller.acceptance_ratio == pytest.approx(3 / 5)


def test_resuming_keeps_what_was_learned() -> None:
    """After a reconnect sequence numbers start again; acceptance and cost stay; left requests are gone."""
    controller = EngineController(capabilities())
    for i in range(1, 40):
        controller.observe(observation(i))
    before = controller.acceptance().hazards.tolist()
    controller.resume((opened(1), opened(4)))
    assert controller.acceptance().hazards.tolist() == before
    assert controller.request(1).verified == 78
    with pytest.raises(KeyError):
        controller.request(0)
    with pytest.raises(ObservationError):
        controller.resume((opened(4), opened(4)))
    controller.observe(observation(1, slots=np.array([1, 4]), opened=()))


def test_reset_forgets_estimates_only() -> None:
    """After a reset learning starts again, with the same requests and policy."""
    controller = EngineController(capabilities())
    for i in range(1, 40):
        controller.observe(observation(i))
    controller.reset_estimators()
    assert controller.acceptance_ratio is None
    assert controller.latency().evidence_steps == 0
    assert controller.decide().reason is Reason.LEARNING
    controller.observe(observation(40))


@pytest.mark.parametrize(
    "spec",
    ["", "nope", "static", "static:", "static:-1", "static:x", "static:" + "9" * 5000, "random:", "idle:1"],
)
def test_unknown_policies_name_the_valid_ones(spec: str) -> None:
    """A mistake in a policy's name is answered with the names that exist."""
    with pytest.raises(PolicyError, match=r"goodput, off, idle, static:K .*turbospec-2024"):
        parse_policy(spec)


def test_a_length_beyond_the_engine_changes_nothing() -> None:
    """An impossible static length is refused and the policy stays."""
    controller = EngineController(capabilities(6), "idle")
    with pytest.raises(PolicyError, match="above the engine's maximum, 6"):
        controller.set_policy("static:7")
    assert controller.policy_spec == "idle"
    with pytest.raises(PolicyError, match="negative"):
        controller.set_cap(-1)


def test_random_lengths_vary_per_step_and_per_request() -> None:
    """The test policy really exercises lengths."""
    world = World(capabilities(), [TrafficClass()], 6)
    controller = EngineController(capabilities(), "random:1")
    lengths, ragged = set(), 0
    for _ in range(60):
        plan = controller.decide()
        lengths.add(plan.proposal_length)
        ragged += len(set(plan.verification_lengths.tolist())) > 1
        controller.observe(to_observation(world.step(to_plan(plan, world.live))))
    assert lengths == set(range(7))
    assert ragged > 20
