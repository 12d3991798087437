"""Writes plans."""

from __future__ import annotations

from collections.abc import Mapping

from turbospec.sidecar.core.types import Reason
from turbospec.sidecar.server.engine import Decided
from turbospec.v1 import speculation_pb2 as pb

REASONS: Mapping[Reason, pb.PlanReason] = {
    reason: getattr(pb, f"PLAN_REASON_{reason.name}") for reason in Reason
}


def write_plan(
    decided: Decided, epoch: int, *, time_to_live_ms: int, report_interval_ms: int
) -> pb.ControlResponse:
    """A decision as the engine gets it. At length 0 it names no request: all have the default."""
    decision = decided.decision
    named = slice(None if decision.proposal_length else 0)
    return pb.ControlResponse(
        plan=pb.Plan(
            version=decided.version,
            epoch=epoch,
            report_sequence=decided.report_sequence,
            time_to_live_ms=time_to_live_ms,
            batch_proposal_length=decision.proposal_length,
            default_verification_length=decision.default_verification_length,
            slots=decision.slots[named].tolist(),
            verification_lengths=decision.verification_lengths[named].tolist(),
            reason=REASONS[decision.reason],
            predicted_goodput_tokens_per_second=decision.predicted_goodput,
            shadow=decided.shadow,
            skip_drafter=decision.skip_drafter,
            report_interval_ms=report_interval_ms,
        )
    )
