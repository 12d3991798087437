"""The report as the JSON document that `--json` writes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from turbospec.engines.profiling.fit import FOLDS, MEDIAN_GOAL, P95_GOAL, FitReport, HeldOut
from turbospec.engines.profiling.measured import Measured
from turbospec.sidecar.profiles.document import as_json as profile_json
from turbospec.sidecar.profiles.profile import Profile


def as_json(profile: Profile, report: FitReport, measured: Measured, seconds: float) -> dict[str, Any]:
    """Plain data: the profile, the errors, and what was not measured. `seconds`: of this run."""
    return {
        "profile_id": profile.key.profile_id,
        "profile": profile_json(profile),
        "fit": {
            "folds": FOLDS,
            "goal": {"median": MEDIAN_GOAL, "p95": P95_GOAL},
            "regions": [asdict(region) for region in report.regions],
            "coverage": asdict(report.coverage),
            "held_out": [_held_out(each) for each in report.held_out],
        },
        "cells": [
            {**asdict(cell), "visits": len(visits), "uncertainty": measured.uncertainty(cell)}
            for cell, visits in measured.visits.items()
        ],
        "steps": {verdict.name.lower(): count for verdict, count in measured.steps.items()},
        "lost_steps": measured.lost_steps,
        "no_place": [asdict(load) for load in sorted(measured.unreachable)],
        "not_measured": [asdict(cell) for cell in measured.unvisited()],
        "seconds": round(seconds, 1),
    }


def _held_out(each: HeldOut) -> dict[str, Any]:
    return {
        **each.cell.coordinates._asdict(),
        "seconds": each.cell.seconds,
        "predicted_seconds": each.predicted_seconds,
        "extrapolated": each.extrapolated,
    }
