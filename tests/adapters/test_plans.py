from __future__ import annotations

from typing import Any

import pytest
from turbospec.adapters.plans import PlanLimits, PlanRefusedError, check_plan
from turbospec.v1 import speculation_pb2 as pb

EPOCH = 77


def limits(*, max_length: int = 4, **capabilities: Any) -> PlanLimits:
    made = pb.Capabilities(**{"proposal_settable": True, "verification_per_request": True, **capabilities})
    return PlanLimits.from_hello(pb.Hello(epoch=EPOCH, max_length=max_length, capabilities=made))


def plan(**fields: Any) -> pb.Plan:
    valid = {
        "version": 5,
        "epoch": EPOCH,
        "report_sequence": 9,
        "time_to_live_ms": 1000,
        "batch_proposal_length": 3,
        "default_verification_length": 2,
        "slots": [0, 1],
        "verification_lengths": [3, 0],
    }
    return pb.Plan(**{**valid, **fields})


def check(message: pb.Plan, against: PlanLimits | None = None) -> None:
    check_plan(message, against or limits(), newest_version=4, newest_sequence=9, slots_given=2)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {
            "batch_proposal_length": 0,
            "default_verification_length": 0,
            "slots": [],
            "verification_lengths": [],
        },
        {"batch_proposal_length": 4, "verification_lengths": [4, 4], "default_verification_length": 4},
        {"proposal_lengths": [3, 2]},
        {"predicted_goodput_tokens_per_second": 12.5},
    ],
)
def test_possible_plans_pass(fields: dict[str, Any]) -> None:
    """Everything that the protocol and the engine allow is accepted, both ends of each range included."""
    check(plan(**fields))


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("version", {"version": 4}),
        ("report_sequence", {"report_sequence": 10}),
        ("time_to_live_ms", {"time_to_live_ms": 0}),
        ("batch_proposal_length", {"batch_proposal_length": 5}),
        ("default_verification_length", {"default_verification_length": 4}),
        ("verification_lengths", {"verification_lengths": [3]}),
        ("verification_lengths", {"verification_lengths": [3, 4]}),
        ("slots", {"slots": [1, 1]}),
        ("slots", {"slots": [0, 2]}),
        ("proposal_lengths", {"proposal_lengths": [3]}),
        ("proposal_lengths", {"proposal_lengths": [3, 4]}),
        ("proposal_lengths", {"proposal_lengths": [2, 3]}),
        ("predicted_goodput_tokens_per_second", {"predicted_goodput_tokens_per_second": float("nan")}),
        ("predicted_goodput_tokens_per_second", {"predicted_goodput_tokens_per_second": float("inf")}),
        ("predicted_goodput_tokens_per_second", {"predicted_goodput_tokens_per_second": -1.0}),
    ],
)
def test_impossible_plans_are_refused_by_field(field: str, fields: dict[str, Any]) -> None:
    """Each impossible field refuses the whole plan, and the refusal names it."""
    with pytest.raises(PlanRefusedError, match=f"plan.{field} ") as refusal:
        check(plan(**fields))
    assert refusal.value.field == field
    assert refusal.value.reason == pb.FALLBACK_REASON_INVALID_PLAN


def test_another_epoch_has_its_own_reason() -> None:
    """A plan of an earlier connection is told from a bad one."""
    with pytest.raises(PlanRefusedError) as refusal:
        check(plan(epoch=EPOCH + 1))
    assert refusal.value.reason == pb.FALLBACK_REASON_WRONG_EPOCH


def test_lengths_that_the_engine_cannot_run_are_refused() -> None:
    """Candidate lengths and a single length for the batch are limits like any other."""
    with pytest.raises(PlanRefusedError, match="candidate lengths"):
        check(plan(), limits(candidate_lengths=[0, 2, 4]))
    with pytest.raises(PlanRefusedError, match="one length for the batch"):
        check(plan(), limits(verification_per_request=False))
    check(plan(verification_lengths=[2, 2]), limits(verification_per_request=False))


def test_the_drafter_is_skipped_only_at_length_0_and_where_it_can_be() -> None:
    """Skipping it under drafts would verify garbage; an engine that cannot must not be told to."""
    nothing: dict[str, Any] = {
        "batch_proposal_length": 0,
        "default_verification_length": 0,
        "verification_lengths": [0, 0],
        "skip_drafter": True,
    }
    check(plan(**nothing), limits(deep_off=True))
    with pytest.raises(PlanRefusedError, match=r"plan.skip_drafter .*cannot skip"):
        check(plan(**nothing))
    with pytest.raises(PlanRefusedError, match=r"plan.skip_drafter .*length 3; only with 0"):
        check(plan(skip_drafter=True), limits(deep_off=True))
