"""Writes what the introspection service tells. Numbers are rounded to what a reader can use."""

from __future__ import annotations

import numpy as np
from turbospec.sidecar.core.evidence import Basis, CellEvidence
from turbospec.sidecar.core.snapshots import AcceptanceSnapshot, LatencySnapshot, RequestSnapshot
from turbospec.sidecar.core.types import Candidate, RequestInfo
from turbospec.sidecar.profiles.store import Match
from turbospec.sidecar.server.engine import Decided, Engine
from turbospec.sidecar.server.identity import AdapterCounters
from turbospec.sidecar.server.standing import uncontrolled_reason
from turbospec.sidecar.server.step_watch import SeenStep
from turbospec.sidecar.server.wire.plan import REASONS
from turbospec.sidecar.server.wire.profiles import write_source
from turbospec.v1 import introspection_pb2 as pb
from turbospec.v1 import speculation_pb2 as spec

_DIGITS = 4  # significant; no estimate here is better than that


def rounded(value: float) -> float:
    """To four significant digits, so that JSON shows 0.7312 and not 0.73120000000000007."""
    return float(f"{value:.{_DIGITS}g}")


def _maybe(value: float | None) -> float | None:
    return None if value is None else rounded(value)


def summary(engine: Engine, now: float) -> pb.EngineSummary:
    """One engine in a line. `now` is in the engine's clock."""
    connection = engine.last_connection
    newest = connection.newest if connection else None
    last = engine.decisions[-1] if engine.decisions else None
    goodput = engine.controller.goodput()
    why_not = uncontrolled_reason(engine, now)
    silent_since = engine.left_at
    if connection is not None:
        silent_since = connection.opened_at if connection.reported_at is None else connection.reported_at
    return pb.EngineSummary(
        engine_id=engine.key.engine_id,
        rank=engine.key.rank,
        connected=engine.connection is not None,
        controlled=why_not is None,
        uncontrolled_reason=why_not or "",
        policy=engine.controller.policy_spec,
        shadow=engine.directives.shadow,
        # Of coalesced steps the counts are summed.
        requests=round(newest.requests / newest.steps) if newest else 0,
        proposal_length=last.decision.proposal_length if last else 0,
        mean_verification_length=_mean(last) if last else 0.0,
        reason=REASONS[last.decision.reason] if last else spec.PLAN_REASON_UNSPECIFIED,
        acceptance_ratio=_maybe(engine.controller.acceptance_ratio),
        realised_goodput_tokens_per_second=_maybe(goodput.realised),
        predicted_goodput_tokens_per_second=_maybe(goodput.predicted),
        idle_goodput_tokens_per_second=_maybe(goodput.idle),
        model_error_ratio=_maybe(engine.controller.latency().model_error),
        plan_age_steps=connection.plan_age_steps if connection else None,
        steps=connection.steps if connection else 0,
        seconds_since_report=round(now - silent_since, 3),
        fallbacks=_fallbacks(engine.adapter) if engine.adapter else (),
        drafter_skipped=newest.drafter_skipped if newest else False,
        unready_requests=len(newest.unready_slots) if newest else 0,
        estimated_gain_ratio=_maybe(goodput.estimated_gain) if engine.directives.shadow else None,
    )


def engine_state(engine: Engine, now: float) -> pb.GetEngineResponse:
    """Everything known of one engine."""
    controller = engine.controller
    return pb.GetEngineResponse(
        summary=summary(engine, now),
        identity=_identity(engine),
        capabilities=_capabilities(engine),
        acceptance=acceptance(controller.acceptance()),
        latency=_latency(controller.latency(), controller.cost_evidence(), engine.started_from),
        last_decision=decision(engine.decisions[-1], now) if engine.decisions else None,
        adapter=_counters(engine.adapter) if engine.adapter else None,
        probe_steps=controller.probe_steps,
        probe_time_ratio=rounded(controller.probe_time_ratio),
    )


def request_state(engine: Engine, request: RequestInfo) -> pb.GetRequestResponse:
    """One live request."""
    state = engine.controller.request(request.slot)
    return pb.GetRequestResponse(
        request_id=request.request_id,
        slot=request.slot,
        label=request.label,
        max_draft=request.max_draft,
        prompt_tokens=request.prompt_tokens,
        acceptance=acceptance(state),
        verified=state.verified,
        accepted=state.accepted,
        verification_length=state.verification_length,
    )


def decision(decided: Decided, now: float) -> pb.Decision:
    """One decision with the numbers behind it."""
    made = decided.decision
    return pb.Decision(
        plan_version=decided.version,
        report_sequence=decided.report_sequence,
        age_seconds=round(now - decided.made_at, 3),
        policy=made.policy,
        reason=REASONS[made.reason],
        explanation=made.explanation,
        requests=decided.requests,
        proposal_length=made.proposal_length,
        requests_by_verification_length=np.bincount(made.verification_lengths).tolist(),
        candidates=[_candidate(candidate) for candidate in made.candidates],
        decision_seconds=rounded(decided.seconds),
        shadow=decided.shadow,
        skip_drafter=made.skip_drafter,
    )


def step(seen: SeenStep) -> pb.ReportedStep:
    """One step with what its time depends on; its time is not rounded, for it is to be measured with."""
    return pb.ReportedStep(
        sequence=seen.sequence,
        steps=seen.steps,
        duration_seconds=seen.seconds,
        disturbances=sorted(f"DISTURBANCE_{each.name}" for each in seen.disturbances),
        requests=seen.requests,
        decoding_requests=seen.decoding_requests,
        labelled_requests=seen.labelled_requests,
        context_tokens=seen.context_tokens,
        target_tokens=seen.target_tokens,
        verified_tokens=seen.verified_tokens,
        prefill_tokens=seen.prefill_tokens,
        proposal_length=seen.proposal_length,
        ragged=seen.ragged,
        drafter_skipped=seen.drafter_skipped,
        plan_version=seen.plan_version,
        labelled_unready_requests=seen.labelled_unready_requests,
    )


def acceptance(state: AcceptanceSnapshot | RequestSnapshot) -> pb.AcceptanceState:
    """Acceptance by position."""
    return pb.AcceptanceState(
        hazards=[rounded(x) for x in state.hazards],
        survivals=[rounded(x) for x in state.survivals],
        evidence=[rounded(x) for x in state.evidence],
        availability=rounded(state.availability),
    )


def _mean(decided: Decided) -> float:
    """Mean verification length over the requests that the plan names; 0 where it names none."""
    lengths = decided.decision.verification_lengths
    return rounded(float(lengths.mean())) if len(lengths) else 0.0


def _candidate(candidate: Candidate) -> pb.Candidate:
    return pb.Candidate(
        proposal_length=candidate.proposal_length,
        verified_tokens=candidate.verified_tokens,
        expected_tokens=rounded(candidate.expected_tokens),
        predicted_step_seconds=rounded(candidate.step_seconds),
        predicted_goodput_tokens_per_second=rounded(candidate.goodput),
        chosen=candidate.chosen,
    )


def _latency(
    state: LatencySnapshot, cells: tuple[CellEvidence, ...], started_from: Match | None
) -> pb.LatencyState:
    return pb.LatencyState(
        terms=[
            pb.LatencyTerm(feature=feature, seconds_per_unit=rounded(seconds))
            for feature, seconds in state.terms
        ],
        evidence_steps=rounded(state.evidence_steps),
        model_error_ratio=_maybe(state.model_error),
        fitted=state.fitted,
        started_from=_profile(started_from) if started_from else None,
        cells=[_cell(cell) for cell in cells],
    )


_BASES = {
    Basis.MEASURED: pb.COST_BASIS_MEASURED,
    Basis.PROFILE: pb.COST_BASIS_PROFILE,
    Basis.PRIOR: pb.COST_BASIS_PRIOR,
    Basis.EXTRAPOLATED: pb.COST_BASIS_EXTRAPOLATED,
}


def _cell(cell: CellEvidence) -> pb.CostCell:
    return pb.CostCell(
        least_requests=cell.least_requests,
        most_requests=cell.most_requests,
        proposal_length=cell.proposal_length,
        drafter_skipped=cell.drafter_skipped,
        basis=_BASES[cell.basis],
        own_steps=cell.own_steps,
        profile_steps=cell.profile_steps,
        prior_steps=cell.prior_steps,
    )


def _profile(match: Match) -> pb.StartingProfile:
    return pb.StartingProfile(
        profile_id=match.profile.key.profile_id,
        source=write_source(match.profile.source),
        cells=sum(not cell.prefill_tokens for cell in match.profile.cells),
        differs_in=match.differing,
    )


def _identity(engine: Engine) -> pb.EngineIdentity:
    identity, capabilities = engine.hello.identity, engine.hello.capabilities
    return pb.EngineIdentity(
        engine_name=identity.engine_name,
        engine_version=identity.engine_version,
        adapter_version=identity.adapter_version,
        model=identity.model,
        draft_model=identity.draft_model,
        method=identity.method,
        max_length=capabilities.max_length,
        static_length=capabilities.static_length,
        max_batch=capabilities.max_batch,
        hardware=identity.hardware,
        dtype=identity.dtype,
        model_parallel_size=identity.model_parallel_size,
        max_context=identity.max_context,
        max_tokens_per_step=identity.max_tokens_per_step,
        graph_sizes=capabilities.graph_sizes,
    )


def _capabilities(engine: Engine) -> spec.Capabilities:
    capabilities = engine.hello.capabilities
    return spec.Capabilities(
        proposal_settable=capabilities.proposal_settable,
        proposal_saves_draft_cost=capabilities.proposal_saves_draft_cost,
        candidate_lengths=capabilities.candidate_lengths,
        verification_per_request=capabilities.verification_per_request,
        ragged_breaks_graphs=capabilities.ragged_breaks_graphs,
        deep_off=capabilities.deep_off,
        plan_delay_steps=capabilities.plan_delay_steps,
    )


def _counters(counters: AdapterCounters) -> spec.AdapterCounters:
    return spec.AdapterCounters(
        fallbacks=_fallbacks(counters),
        coalesced_steps=counters.coalesced_steps,
        dropped_steps=counters.dropped_steps,
        connections=counters.connections,
        memory_limited_steps=counters.memory_limited_steps,
    )


def _fallbacks(counters: AdapterCounters) -> list[spec.FallbackCount]:
    return [spec.FallbackCount(reason=reason, count=count) for reason, count in counters.fallbacks.items()]
