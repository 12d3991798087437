"""Writes plans."""

from __future__ import annotations

from collections.abc import Mapping

from turbospec.sidecar.core.types import Reason
from turbospec.sidecar.server.engine import Decided
from turbospec.v1 import speculation_pb2 as pb

REASONS: Mapping[Reason, pb.PlanReason] = {
    reason: getattr(pb, f"PLAN_REASON_{reason.name}") for reason in Reason
}


def write_plan(decided: Decided, epoch: int, time_to_live_ms: int) -> pb.ControlResponse:
    """A decision as the engine gets it."""
    decision = decided.decision
    return pb.ControlResponse(
        plan=pb.Plan(
            version=decided.version,
            epoch=epoch,
            report_sequence=decided.report_sequence,
            time_to_live_ms=time_to_live_ms,
            batch_proposal_length=decision.proposal_length,
            default_verification_length=decision.default_verification_length,
            slots=decision.slots.tolist(),
            verification_lengths=decision.verification_lengths.tolist(),
            reason=REASONS[decision.reason],
            predicted_goodput_tokens_per_second=decision.predicted_goodput,
            shadow=decided.shadow,
            skip_drafter=decision.skip_drafter,
        )
    )
