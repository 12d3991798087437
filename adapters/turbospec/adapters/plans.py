"""Plans: what an engine may apply, and the check that stands before it.

Everything here runs in the client's own threads. What the engine's thread gets is an `AppliedPlan`,
which cannot be out of range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from turbospec.v1 import speculation_pb2 as pb

# No plan outlives its controller for longer than this, whatever it says: it is the longest time for
# which an engine would follow a controller that has stopped.
MAX_TIME_TO_LIVE_SECONDS = 10.0
# The protocol's limit. Reports kept back for longer would be as stale as those of a stalled stream.
MAX_REPORT_INTERVAL_MS = 1000


@dataclass(frozen=True, slots=True)
class AppliedPlan:
    """Lengths that are valid for the engine they are given to, until `expires_at`.

    `report_sequence` is the step, on the connection named by `epoch`, that the plan was derived from.
    `verification_lengths` is by request id; requests that it does not name have
    `default_verification_length`. All of them are at most `proposal_length`. `expires_at` is in
    `time.monotonic` seconds. `skip_drafter`: the drafter need not run at all; then all lengths are 0.
    """

    version: int
    epoch: int
    report_sequence: int
    proposal_length: int
    default_verification_length: int
    expires_at: float
    verification_lengths: dict[str, int] = field(default_factory=dict)
    skip_drafter: bool = False

    def verification_length(self, request_id: str) -> int:
        """Draft tokens of this request to verify."""
        return self.verification_lengths.get(request_id, self.default_verification_length)


class PlanRefusedError(Exception):
    """A plan that must not be applied: `reason` counts it, `field` is at fault, the message says why."""

    def __init__(self, reason: pb.FallbackReason, field: str, message: str) -> None:
        super().__init__(f"plan.{field} {message}")
        self.reason = reason
        self.field = field


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What a plan is held against; from the hello of the connection that it came on."""

    epoch: int
    max_length: int
    candidate_lengths: frozenset[int]
    proposal_settable: bool
    verification_per_request: bool
    deep_off: bool

    @classmethod
    def from_hello(cls, hello: pb.Hello) -> PlanLimits:
        capabilities = hello.capabilities
        return cls(
            epoch=hello.epoch,
            max_length=hello.max_length,
            candidate_lengths=frozenset(capabilities.candidate_lengths or range(hello.max_length + 1)),
            proposal_settable=capabilities.proposal_settable,
            verification_per_request=capabilities.verification_per_request,
            deep_off=capabilities.deep_off,
        )


def check_plan(
    plan: pb.Plan, limits: PlanLimits, *, newest_version: int, newest_sequence: int, slots_given: int
) -> None:
    """Raises `PlanRefusedError` unless every field of `plan` is possible.

    A plan is refused whole and not clamped: one impossible field says that the rest is not to be
    trusted either. `newest_version` is that of the last plan taken on this connection, `newest_sequence`
    that of the last report sent. A slot below `slots_given` may have been closed since the report and is
    no fault; one that no request has had is.
    """
    if plan.epoch != limits.epoch:
        raise PlanRefusedError(pb.FALLBACK_REASON_WRONG_EPOCH, "epoch", "belongs to another connection")
    if plan.version <= newest_version:
        _refuse("version", f"is {plan.version}, not above the last one, {newest_version}")
    if plan.report_sequence > newest_sequence:
        _refuse("report_sequence", f"is {plan.report_sequence}; the last report sent is {newest_sequence}")
    if plan.time_to_live_ms < 1:
        _refuse("time_to_live_ms", "is 0; at least 1")
    if plan.report_interval_ms > MAX_REPORT_INTERVAL_MS:
        _refuse("report_interval_ms", f"is {plan.report_interval_ms}; at most {MAX_REPORT_INTERVAL_MS}")
    goodput = plan.predicted_goodput_tokens_per_second
    if not math.isfinite(goodput) or goodput < 0:
        _refuse("predicted_goodput_tokens_per_second", f"is {goodput}")
    if plan.slots and max(plan.slots) >= slots_given:
        _refuse("slots", f"names {max(plan.slots)}; this connection has had {slots_given} slots, from 0")
    _check_lengths(plan, limits)
    if plan.skip_drafter and not limits.deep_off:
        _refuse("skip_drafter", "is set, and this engine cannot skip its drafter")
    if plan.skip_drafter and plan.batch_proposal_length:
        _refuse(
            "skip_drafter", f"is set with batch_proposal_length {plan.batch_proposal_length}; only with 0"
        )


def _check_lengths(plan: pb.Plan, limits: PlanLimits) -> None:
    longest = plan.batch_proposal_length
    if longest > limits.max_length:
        _refuse("batch_proposal_length", f"is {longest}; at most max_length, {limits.max_length}")
    if longest not in limits.candidate_lengths:
        _refuse("batch_proposal_length", f"is {longest}, which is none of the candidate lengths")
    if plan.default_verification_length > longest:
        _refuse(
            "default_verification_length",
            f"is {plan.default_verification_length}; at most batch_proposal_length, {longest}",
        )
    if len(plan.verification_lengths) != len(plan.slots):
        _refuse(
            "verification_lengths", f"has {len(plan.verification_lengths)} entries, slots {len(plan.slots)}"
        )
    if len(set(plan.slots)) != len(plan.slots):
        _refuse("slots", "names a slot twice")
    _check_each("verification_lengths", plan.verification_lengths, longest)
    if not limits.verification_per_request and set(plan.verification_lengths) - {
        plan.default_verification_length
    }:
        _refuse("verification_lengths", "differ, and this engine has one length for the batch")
    if plan.proposal_lengths:
        if len(plan.proposal_lengths) != len(plan.slots):
            _refuse("proposal_lengths", f"has {len(plan.proposal_lengths)} entries, slots {len(plan.slots)}")
        _check_each("proposal_lengths", plan.proposal_lengths, longest)
        if any(k < v for k, v in zip(plan.proposal_lengths, plan.verification_lengths, strict=True)):
            _refuse("proposal_lengths", "has an entry below its verification length")


def _check_each(name: str, lengths: Sequence[int], longest: int) -> None:
    if lengths and max(lengths) > longest:
        _refuse(name, f"has {max(lengths)}; at most batch_proposal_length, {longest}")


def _refuse(field: str, message: str) -> NoReturn:
    raise PlanRefusedError(pb.FALLBACK_REASON_INVALID_PLAN, field, message)
