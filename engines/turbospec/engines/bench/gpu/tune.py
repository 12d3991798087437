"""The parts `tune-…`: the entries of vLLM's own table of lengths by batch size, by search on this device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from turbospec.engines.bench.e2e import calibration
from turbospec.engines.bench.e2e.lineup import FIXED_ENGINE, Lineup
from turbospec.engines.bench.gpu.plan import LONGEST_LENGTH
from turbospec.engines.bench.gpu.serving import Case, stage, start_controlled

_SEED = 0


def measure(case: Case, directory: Path, logs: Path) -> dict[str, Any]:
    """The best length at each concurrency, 0 included, and the table made of them."""
    scale = case.scale
    chosen, speeds = {}, {}
    with stage(case, directory, logs) as on:
        fixed = start_controlled(on, case, FIXED_ENGINE)
        with Lineup({FIXED_ENGINE: fixed}, on.controller, on.place, controlled=(FIXED_ENGINE,)) as searched:
            searched.answer_once()
            for concurrency in scale.concurrencies:
                searched.measure(f"static:{LONGEST_LENGTH}", concurrency, scale.settle_seconds, seed=_SEED)
                chosen[concurrency], speeds[concurrency] = calibration.best_length(
                    _measure_length(searched, concurrency), range(LONGEST_LENGTH + 1), scale.window_seconds
                )
    return {
        "entries": calibration.as_table(chosen, scale.max_requests),
        "tokens_per_second_by_concurrency_and_length": speeds,
        "windows_measured_again": searched.repeated,
    }


def _measure_length(searched: Lineup, concurrency: int) -> Callable[[int, float], float]:
    def measure_length(length: int, seconds: float) -> float:
        policy = f"static:{length}" if length else "idle"
        return searched.measure(policy, concurrency, seconds, seed=_SEED).tokens_per_second

    return measure_length
