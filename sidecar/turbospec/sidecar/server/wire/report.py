"""Reads StepReport. What the protocol itself rules out ends here; what contradicts the engine's state is the
core's to refuse, which then has learnt nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from turbospec.sidecar.core.types import Disturbance, IntArray, Observation
from turbospec.sidecar.server import limits
from turbospec.sidecar.server.identity import AdapterCounters, Hello
from turbospec.sidecar.server.wire.errors import MessageError, at_most, within
from turbospec.sidecar.server.wire.hello import read_opened
from turbospec.v1 import speculation_pb2 as pb

_DISTURBANCES: Mapping[int, Disturbance] = {
    pb.Disturbance.Value(f"DISTURBANCE_{member.name}"): member for member in Disturbance
}


def read_report(report: pb.StepReport, hello: Hello, room: int) -> Observation:
    """One report as the core's observation. At most `room` requests may enter. Raises `MessageError`."""
    steps = within("report.steps", report.steps or 1, 1, limits.MOST_COALESCED_STEPS)
    longest = hello.capabilities.max_length
    # Counted before they are read: a message of the largest size holds millions of entries.
    at_most("report.slots", report.slots, hello.capabilities.max_batch * steps)
    for name in ("proposed", "verified", "accepted", "context_tokens"):
        at_most(f"report.{name}", getattr(report, name), len(report.slots))
    at_most("report.disturbances", report.disturbances, len(Disturbance))
    at_most("report.closed_slots", report.closed_slots, limits.LARGEST_SLOT + 1)
    at_most("report.unready_slots", report.unready_slots, limits.LARGEST_SLOT + 1)
    slots = np.array(report.slots, np.int64)
    context_tokens = np.array(report.context_tokens, np.int64)
    _check_repetition(slots, steps)
    _check_context(context_tokens, hello.identity.max_context)
    return Observation(
        sequence=report.sequence,
        duration=_duration(report.duration_ns, steps),
        requests=report.requests,
        slots=slots,
        proposed=np.array(report.proposed, np.int64),
        verified=np.array(report.verified, np.int64),
        accepted=np.array(report.accepted, np.int64),
        context_tokens=context_tokens,
        proposal_length=report.proposal_length,
        # Each scheduled request gives its accepted drafts and one token more.
        emitted_tokens=within(
            "report.emitted_tokens", report.emitted_tokens, 0, report.requests * (longest + 1)
        ),
        prefill_tokens=report.prefill_tokens,
        plan_version=report.plan_version,
        steps=steps,
        disturbances=frozenset(_disturbance(i, value) for i, value in enumerate(report.disturbances)),
        opened=read_opened("report.opened", report.opened, room),
        closed_slots=tuple(report.closed_slots),
        kv_cache_usage=report.kv_cache_usage_ratio if report.HasField("kv_cache_usage_ratio") else None,
        drafter_skipped=report.drafter_skipped,
        unready_slots=tuple(report.unready_slots),
    )


def read_counters(report: pb.StepReport) -> AdapterCounters | None:
    """What the adapter counted, if the report tells. Raises `MessageError`."""
    if not report.HasField("counters"):
        return None
    fallbacks: dict[str, int] = {}
    reasons = pb.FallbackReason.DESCRIPTOR.values
    at_most("report.counters.fallbacks", report.counters.fallbacks, len(reasons))
    for i, fallback in enumerate(report.counters.fallbacks):
        name = pb.FallbackReason.DESCRIPTOR.values_by_number.get(fallback.reason)
        if name is None or fallback.reason == pb.FALLBACK_REASON_UNSPECIFIED:
            valid = ", ".join(v.name for v in reasons[1:])
            raise MessageError(
                f"report.counters.fallbacks[{i}].reason", f"must be one of {valid}, not {fallback.reason}"
            )
        fallbacks[name.name] = fallbacks.get(name.name, 0) + fallback.count
    return AdapterCounters(
        fallbacks=fallbacks,
        coalesced_steps=report.counters.coalesced_steps,
        dropped_steps=report.counters.dropped_steps,
        connections=report.counters.connections,
        memory_limited_steps=report.counters.memory_limited_steps,
    )


def _check_repetition(slots: IntArray, steps: int) -> None:
    """A request decodes at most once per step, also in coalesced reports."""
    if len(slots) == 0:
        return
    if (largest := int(slots.max())) > limits.LARGEST_SLOT:
        raise MessageError("report.slots", f"at most {limits.LARGEST_SLOT}, not {largest}")
    count = np.bincount(slots)
    if count.max() > steps:
        slot = int(count.argmax())
        raise MessageError("report.slots", f"{slot} occurs {count[slot]} times in {steps} step(s)")


def _check_context(context_tokens: IntArray, longest: int) -> None:
    if longest and len(context_tokens) and (largest := int(context_tokens.max())) > longest:
        raise MessageError(
            "report.context_tokens", f"at most the hello's max_context, {longest}, not {largest}"
        )


def _duration(nanoseconds: int, steps: int) -> float | None:
    if nanoseconds == 0:
        return None
    seconds = nanoseconds / 1e9
    if seconds > limits.LONGEST_STEP_SECONDS * steps:
        raise MessageError(
            "report.duration_ns", f"at most {limits.LONGEST_STEP_SECONDS:.0f} s per step, not {seconds:.0f} s"
        )
    return seconds


def _disturbance(i: int, value: int) -> Disturbance:
    found = _DISTURBANCES.get(value)
    if found is None:
        valid = ", ".join(f"DISTURBANCE_{d.name}" for d in Disturbance)
        raise MessageError(f"report.disturbances[{i}]", f"must be one of {valid}, not {value}")
    return found
