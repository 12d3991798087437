"""Every metric of an engine: its name, what it means and where it is read. Documentation, dashboard and alert
rules are checked against this list.

Names follow Prometheus's conventions: base units, `_total` for what only grows, `_ratio` for 0 to 1. No label
has a value per request: an engine has some hundred series, whatever its traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from turbospec.sidecar.core.types import IntArray, Reason
from turbospec.sidecar.server.metrics.sample import EngineSample
from turbospec.sidecar.server.metrics.tally import DECISION_BOUNDS
from turbospec.v1 import introspection_pb2 as pb
from turbospec.v1 import speculation_pb2 as spec

# Upper bounds of the histograms of lengths: each length in use by itself, up to the longest possible.
LENGTH_BOUNDS = (0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 64)

# The protocol's reasons as label values.
FALLBACKS: Mapping[int, str] = {
    value.number: value.name.removeprefix("FALLBACK_REASON_").lower()
    for value in spec.FallbackReason.DESCRIPTOR.values
    if value.number != spec.FALLBACK_REASON_UNSPECIFIED
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram: observations within each upper bound but above the one before, and their sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]  # one more than bounds: those above all
    total: float


# A number; numbers by a label's values; a histogram; the values of an info metric's labels; nothing to tell.
Value = float | Mapping[str, float] | Distribution | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class EngineMetric:
    """One metric, with the labels `engine_id`, `rank` and `labels`.

    What describes the moment is `momentary`: of engines that are away it is not told.
    """

    name: str
    kind: str  # gauge, counter, histogram or info
    meaning: str
    read: Callable[[EngineSample], Value]
    labels: tuple[str, ...] = ()
    momentary: bool = False


def _summary(field: str) -> Callable[[EngineSample], float | None]:
    """A field of introspection's summary; None where it is absent."""
    optional = pb.EngineSummary.DESCRIPTOR.fields_by_name[field].has_presence

    def read(sample: EngineSample) -> float | None:
        summary = sample.state.summary
        return None if optional and not summary.HasField(field) else float(getattr(summary, field))

    return read


def _adapter(field: str) -> Callable[[EngineSample], float | None]:
    """A total of the adapter's; None until it has reported any."""

    def read(sample: EngineSample) -> float | None:
        return float(getattr(sample.state.adapter, field)) if sample.state.HasField("adapter") else None

    return read


def _fallbacks(sample: EngineSample) -> Mapping[str, float] | None:
    """All reasons, also those that never occurred: a rate needs a 0 to rise from."""
    if not sample.state.HasField("adapter"):
        return None
    counts = dict.fromkeys(FALLBACKS.values(), 0.0)
    for fallback in sample.state.adapter.fallbacks:
        counts[FALLBACKS[fallback.reason]] += fallback.count
    return counts


def _plans(sample: EngineSample) -> Mapping[str, float]:
    return {reason.value: float(sample.tally.plans[reason]) for reason in Reason}


def _positions(sample: EngineSample, lengths: IntArray) -> Mapping[str, float]:
    """How often each draft position was reached: a draft of length v reaches the positions 1 to v."""
    reached = lengths[::-1].cumsum()[::-1]
    return {str(j): float(reached[j]) for j in range(1, sample.state.identity.max_length + 1)}


def _survivals(sample: EngineSample) -> Mapping[str, float]:
    return {str(j): survival for j, survival in enumerate(sample.state.acceptance.survivals, 1)}


def _lengths(counts: IntArray) -> Distribution:
    """`counts` by length."""
    lengths = np.arange(counts.size)
    within = np.searchsorted(LENGTH_BOUNDS, lengths)
    by_bound = np.bincount(within, weights=counts, minlength=len(LENGTH_BOUNDS) + 1).astype(int)
    return Distribution(LENGTH_BOUNDS, tuple(by_bound.tolist()), float(lengths @ counts))


def _decisions(sample: EngineSample) -> Distribution:
    return Distribution(DECISION_BOUNDS, tuple(sample.tally.decisions), sample.tally.decision_seconds)


def _info(sample: EngineSample) -> tuple[str, ...]:
    identity = sample.state.identity
    return (*(getattr(identity, label) for label in _IDENTITY), sample.state.summary.policy)


_IDENTITY = ("engine_name", "engine_version", "adapter_version", "model", "draft_model", "method")

ENGINE_METRICS = (
    EngineMetric(
        "turbospec_engine_info",
        "info",
        "Always 1; the labels say what the engine is and which policy is in force.",
        _info,
        labels=(*_IDENTITY, "policy"),
    ),
    EngineMetric(
        "turbospec_engine_connected", "gauge", "1 while the engine's stream is open.", _summary("connected")
    ),
    EngineMetric(
        "turbospec_engine_controlled",
        "gauge",
        "1 while the engine's newest step ran under a plan of this controller.",
        _summary("controlled"),
    ),
    EngineMetric(
        "turbospec_engine_shadow",
        "gauge",
        "1 while plans are computed and not applied.",
        _summary("shadow"),
    ),
    EngineMetric(
        "turbospec_live_requests",
        "gauge",
        "Requests in the newest step.",
        _summary("requests"),
        momentary=True,
    ),
    EngineMetric(
        "turbospec_report_age_seconds",
        "gauge",
        "Time since the newest report; an engine without requests reports nothing.",
        _summary("seconds_since_report"),
        momentary=True,
    ),
    EngineMetric(
        "turbospec_steps_total", "counter", "Generation steps reported.", lambda s: float(s.tally.steps)
    ),
    EngineMetric(
        "turbospec_step_seconds_total",
        "counter",
        "Time of the steps that were timed, without idle time.",
        lambda s: s.tally.step_seconds,
    ),
    EngineMetric(
        "turbospec_emitted_tokens_total",
        "counter",
        "Tokens that users received.",
        lambda s: float(s.tally.emitted_tokens),
    ),
    EngineMetric(
        "turbospec_proposal_length_tokens",
        "histogram",
        "Draft tokens proposed per request; one observation per step.",
        lambda s: _lengths(s.tally.proposals),
    ),
    EngineMetric(
        "turbospec_verification_length_tokens",
        "histogram",
        "Draft tokens verified; one observation per request and step.",
        lambda s: _lengths(s.tally.verified),
    ),
    EngineMetric(
        "turbospec_verified_tokens_total",
        "counter",
        "Draft tokens verified, by draft position.",
        lambda s: _positions(s, s.tally.verified),
        labels=("position",),
    ),
    EngineMetric(
        "turbospec_accepted_tokens_total",
        "counter",
        "Draft tokens accepted, by draft position; over those verified it is the acceptance of the position.",
        lambda s: _positions(s, s.tally.accepted),
        labels=("position",),
    ),
    EngineMetric(
        "turbospec_survival_ratio",
        "gauge",
        "Estimated probability that the drafts up to this position are all accepted, for an average request.",
        _survivals,
        labels=("position",),
        momentary=True,
    ),
    EngineMetric(
        "turbospec_acceptance_ratio",
        "gauge",
        "Draft tokens accepted over verified, recent.",
        _summary("acceptance_ratio"),
        momentary=True,
    ),
    EngineMetric(
        "turbospec_realised_goodput_tokens_per_second",
        "gauge",
        "Tokens that users received per second of step time, over recent undisturbed steps.",
        _summary("realised_goodput_tokens_per_second"),
        momentary=True,
    ),
    EngineMetric(
        "turbospec_predicted_goodput_tokens_per_second",
        "gauge",
        "What the plans had predicted for the same steps.",
        _summary("predicted_goodput_tokens_per_second"),
        momentary=True,
    ),
    EngineMetric(
        "turbospec_idle_goodput_tokens_per_second",
        "gauge",
        "What the cost model expects at length 0 for the same steps.",
        _summary("idle_goodput_tokens_per_second"),
        momentary=True,
    ),
    EngineMetric(
        "turbospec_model_error_ratio",
        "gauge",
        "Median relative error of predicted step times, over recent undisturbed steps.",
        _summary("model_error_ratio"),
        momentary=True,
    ),
    EngineMetric(
        "turbospec_probe_steps_total",
        "counter",
        "Steps that looked at a length that was not predicted to be best.",
        lambda s: float(s.state.probe_steps),
    ),
    EngineMetric(
        "turbospec_probe_time_ratio",
        "gauge",
        "Step time spent on such looks over all step time, recent.",
        lambda s: s.state.probe_time_ratio,
        momentary=True,
    ),
    EngineMetric(
        "turbospec_drift_events_total",
        "counter",
        "Shifts of traffic that were noticed in acceptance.",
        lambda s: float(s.drifts),
    ),
    EngineMetric(
        "turbospec_machine_slowdown_ratio",
        "gauge",
        "How many times as long steps take now as when their costs were learned.",
        lambda s: s.slowdown_ratio,
    ),
    EngineMetric(
        "turbospec_drafter_skipped",
        "gauge",
        "1 while the drafter is skipped altogether, because no length pays.",
        _summary("drafter_skipped"),
        momentary=True,
    ),
    EngineMetric(
        "turbospec_unready_requests",
        "gauge",
        "Live requests that cannot speculate because the drafter was skipped while they ran.",
        _summary("unready_requests"),
        momentary=True,
    ),
    EngineMetric(
        "turbospec_plans_total",
        "counter",
        "Plans made, by why they have their lengths.",
        _plans,
        labels=("reason",),
    ),
    EngineMetric(
        "turbospec_decision_seconds",
        "histogram",
        "Time that deciding on a plan took.",
        _decisions,
    ),
    EngineMetric(
        "turbospec_plan_age_steps",
        "gauge",
        "Steps between the report that a plan was made from and the newest step that ran under it.",
        _summary("plan_age_steps"),
        momentary=True,
    ),
    EngineMetric(
        "turbospec_fallbacks_total",
        "counter",
        "Steps that ran on the engine's own length, or for reasons that reject a plan plans, by reason; "
        "the adapter's own count.",
        _fallbacks,
        labels=("reason",),
    ),
    EngineMetric(
        "turbospec_coalesced_steps_total",
        "counter",
        "Steps that the adapter merged into later reports because the connection lagged.",
        _adapter("coalesced_steps"),
    ),
    EngineMetric(
        "turbospec_dropped_steps_total",
        "counter",
        "Steps whose content the adapter gave up because even merged reports did not fit.",
        _adapter("dropped_steps"),
    ),
    EngineMetric(
        "turbospec_memory_limited_steps_total",
        "counter",
        "Steps with shorter lengths than planned, because the KV cache had no room for more without "
        "preempting.",
        _adapter("memory_limited_steps"),
    ),
    EngineMetric(
        "turbospec_adapter_connections_total",
        "counter",
        "Connections that the adapter made.",
        _adapter("connections"),
    ),
)
