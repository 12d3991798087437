"""The results as the JSON document that `--json` writes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from turbospec.engines.bench.machine import machine
from turbospec.engines.bench.moving.measured import Measured, MixMeasured
from turbospec.engines.bench.moving.mix import MIXES
from turbospec.engines.bench.moving.plan import GOODPUT, LOAD, MIX_CONCURRENCY, POLICIES
from turbospec.engines.bench.moving.timeline import DEFINITION, Timeline

_DIGITS = 3  # of times and speeds


def as_json(measured: Measured, seconds: float) -> dict[str, Any]:
    """Plain data; parts that were not run are absent."""
    document: dict[str, Any] = {}
    if measured.timelines:
        document["moving"] = [_timeline(timeline) for timeline in measured.timelines]
        document["settle_definition"] = DEFINITION
    return (
        document
        | {mix.part: _mix(mix) for mix in measured.mixes}
        | {
            "settings": asdict(measured.options) | {"load_requests": LOAD},
            "total_seconds": round(seconds, _DIGITS),
            "machine": machine(),
        }
    )


def _timeline(timeline: Timeline) -> dict[str, Any]:
    steps = [asdict(step) for step in timeline.steps()]
    for step in steps:
        step["from"], step["to"] = step.pop("before"), step.pop("after")
    phases = []
    for phase in timeline.phases:
        length, speed = timeline.settled(phase)
        phases.append(
            asdict(phase) | {"final_median_verification_length": length, "final_tokens_per_second": speed}
        )
    return {
        "pair": timeline.pair,
        "policy": GOODPUT,
        "timeline": [_rounded(asdict(sample)) for sample in timeline.samples],
        "steps": [_rounded(step) for step in steps],
        "phases": [_rounded(phase) for phase in phases],
    }


def _mix(mix: MixMeasured) -> dict[str, Any]:
    scores = mix.scores()
    return {
        "method": MIXES[mix.part].method,
        "requests_at_once": MIX_CONCURRENCY,
        "classes": [{"class": c.name, "parameters": dict(c.parameters)} for c in mix.classes],
        "policies": [
            {
                "policy": policy,
                "tokens_per_second": mix.speeds()[policy],
                "classes": [_class(mix, policy, c.name) for c in mix.classes],
            }
            for policy in POLICIES
        ],
        "goodput_over": {
            policy: asdict(scores.over(GOODPUT, policy)) for policy in POLICIES if policy != GOODPUT
        },
        "goodput_over_best": asdict(scores.over_best(GOODPUT)),
    }


def _class(mix: MixMeasured, policy: str, of_class: str) -> dict[str, Any]:
    given = mix.given(policy, of_class)
    return {
        "class": of_class,
        "tokens_per_second": mix.class_speeds(policy, of_class),
        "mean_planned_verification_length": given.mean_planned_length,
        "mean_verified_tokens_per_request_and_step": given.mean_verified,
        "acceptance_ratio": given.acceptance_ratio,
        "decode_steps_looked_at": given.decode_steps,
    }


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, _DIGITS) if isinstance(value, float) else value for name, value in values.items()
    }
