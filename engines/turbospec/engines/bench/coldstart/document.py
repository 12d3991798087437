"""The results as the JSON document that `--json` writes; its fields are described in docs/profiles.md."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from turbospec.engines.bench.coldstart.measured import Measured, cells_of
from turbospec.engines.bench.coldstart.plan import ARMS, FIRST, FIRST_STEPS, PHASE_STEPS, POLICIES
from turbospec.engines.bench.coldstart.targets import ratios
from turbospec.engines.bench.e2e.scoring import RESAMPLES
from turbospec.engines.bench.machine import machine

_INTERVALS = (
    f"90%, percentiles of {RESAMPLES} bootstrap resamples of repeats, each with all its phases, one fewer in "
    "each half: odd ones from odd ones and even from even; averages are geometric, all phases weigh the same"
)
_WORST = "the phase with the lowest ratio on odd repeats, measured on even ones, and the other way round"


def as_json(measured: Measured, seconds: float) -> dict[str, Any]:
    """Plain data. `phases` is what was measured; all else says how, and what follows from it."""
    profile = measured.profile
    return {
        "phases": [phase for pair in measured.runs for arm in ARMS for phase in _phases(measured, pair, arm)],
        "ratios": [
            {"pair": pair} | asdict(ratio) | {"met": ratio.met}
            for pair in measured.runs
            for ratio in ratios(measured, pair)
        ],
        "intervals": _INTERVALS,
        "worst_phase": _WORST,
        "profile": None
        if profile is None
        else {
            "source": profile.source.value,
            "measured_at": profile.measured_at.isoformat(),
            "cells": len(profile.cells),
            "steps": profile.summary.steps,
        },
        "runs_made_again": measured.repeated,
        "settings": {
            "pairs": measured.options.pairs,
            "repeats": measured.options.repeats,
            "first_steps": FIRST_STEPS,
            "phase_steps": PHASE_STEPS,
            "policies": POLICIES,
        },
        "total_seconds": round(seconds, 1),
        "machine": machine(),
    }


def _phases(measured: Measured, pair: str, arm: str) -> list[dict[str, Any]]:
    found = []
    for cell in cells_of(arm):
        phases = measured.phases(pair, arm, cell)
        found.append(
            {
                "pair": pair,
                "arm": arm,
                "requests": cell.requests,
                "visit": cell.visit,
                "within_first_steps": cell in FIRST,
                "tokens_per_second": [phase.tokens_per_second for phase in phases],
                "steps": [phase.steps for phase in phases],
                "seconds": [round(phase.seconds, 3) for phase in phases],
                "mean_verification_length_at_end": [phase.mean_verification_length for phase in phases],
                "drafter_skipped_at_end": [phase.drafter_skipped for phase in phases],
            }
        )
    return found
