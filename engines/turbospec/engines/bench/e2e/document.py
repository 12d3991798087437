"""The results as the JSON document that `--json` writes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from turbospec.engines.bench.e2e.measured import Measured
from turbospec.engines.bench.e2e.schedule import GOODPUT, NONE, RAMP_SECONDS, SETTLE_SECONDS, STATICS
from turbospec.engines.bench.e2e.scoring import RESAMPLES, Cell, Scores
from turbospec.engines.bench.e2e.targets import targets
from turbospec.engines.bench.machine import machine

_INTERVALS = (
    f"90%, percentiles of {RESAMPLES} bootstrap resamples of repeats, one fewer in each half: odd ones from "
    "odd ones and even from even, independently for each cell, jointly for its policies; the best chosen anew"
)
_BEST = (
    f"the fastest of {NONE} and {STATICS[0]} to {STATICS[-1]}, chosen on odd repeats and compared on even "
    "ones, and the other way round; all averages are geometric"
)


def as_json(measured: Measured, scores: Scores, seconds: float) -> dict[str, Any]:
    """Plain data. `cells` is what was measured; all else says how, and what follows from it."""
    speeds, policies, pace = measured.speeds(), measured.options.policies, measured.options.pace
    return {
        "cells": [
            _cell(cell, policy) | {"tokens_per_second": speeds[cell][policy]}
            for cell in scores.cells
            for policy in policies
        ],
        "summary": {
            "policies_over_best": {policy: asdict(scores.over_best(policy)) for policy in policies},
            f"{GOODPUT}_over": {
                policy: asdict(scores.over(GOODPUT, policy)) for policy in policies if policy != GOODPUT
            },
            "cells": [_summary(scores, cell) for cell in scores.cells],
        },
        "targets": [asdict(target) | {"met": target.met} for target in targets(scores)],
        "intervals": _INTERVALS,
        "best": _BEST,
        "verified_lengths": [
            _cell(cell, policy) | {"mean_length": [w.mean_length for w in measured.windows[cell][policy]]}
            for cell in scores.cells
            for policy in policies
        ],
        "calibrations": {
            pair: {
                "num_speculative_tokens_per_batch_size": calibration.entries,
                "tokens_per_second_by_concurrency_and_length": calibration.tokens_per_second,
            }
            for pair, calibration in measured.calibrations.items()
        },
        "windows_measured_again": measured.repeated,
        "settings": asdict(measured.options)
        | {"ramp_seconds": pace * RAMP_SECONDS, "settle_seconds": pace * SETTLE_SECONDS},
        "total_seconds": seconds,
        "machine": machine(),
    }


def _cell(cell: Cell, policy: str) -> dict[str, Any]:
    return {"pair": cell[0], "concurrency": cell[1], "policy": policy}


def _summary(scores: Scores, cell: Cell) -> dict[str, Any]:
    odd, even = scores.chosen(cell)
    return {
        "pair": cell[0],
        "concurrency": cell[1],
        "best_of_odd_repeats": odd,
        "best_of_even_repeats": even,
        f"{GOODPUT}_over_best": asdict(scores.over_best(GOODPUT, [cell])),
        f"{GOODPUT}_over_{NONE}": asdict(scores.over(GOODPUT, NONE, [cell])),
    }
