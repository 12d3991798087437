"""The results as the JSON document that `--json` writes."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

from turbospec.adapters.version import __version__
from turbospec.engines.bench.hotpath import plan
from turbospec.engines.bench.hotpath.measured import CellTimes, PlanTime, StageTimes
from turbospec.engines.bench.hotpath.scoring import RESAMPLES, dilation, median_interval, percentiles

_MEANINGS = {
    "adapter_us": "CPU time (thread_time_ns) of the adapter's hooks in the scheduler's thread per step, "
    f"under policy {plan.ADAPTER_POLICY}; what an empty hook costs under the same watch is taken off",
    "adapter_us_goodput": f"the same under policy {plan.SIDECAR_POLICY}",
    "dilation_ratio": "step time with the adapter over without, geometric mean over pairs of blocks; "
    f"without: the engine's own scheduler in the same process; with: policy {plan.DILATION_POLICY}, the "
    "engine's own length. Engine and sidecar each on a core of its own, one OpenMP thread",
    "dilation_ratio_unpinned": "the same, both processes on both cores",
    "switch_us": "CPU time of the scheduler's thread in the engine's own change of lengths, of steps with "
    f"one, under policy {plan.ADAPTER_POLICY}; not there where a length is but an argument",
    "switch_share_goodput": f"share of the steps that have one under policy {plan.SIDECAR_POLICY}",
    "plan_lag_steps": "steps between the report that a step's plan was made from and the step",
    "sidecar_us": "from the bytes of a report, as gRPC hands them over, to those of its plan, under policy "
    f"{plan.SIDECAR_POLICY}; what gRPC needs itself is not in it",
    "intervals": f"90%: percentiles of bootstrap resamples, for dilation {RESAMPLES} of the pairs of blocks",
}


def as_json(
    stages: Sequence[StageTimes], plans: Sequence[PlanTime], seconds: float, engine: str
) -> dict[str, Any]:
    """Plain data. `cells` is what was measured; all else says how, and what follows from it."""
    cells = [_cell(cell, plans) for stage in stages for cell in stage.cells]
    return {
        "cells": cells,
        "targets": _targets(cells),
        "meanings": _MEANINGS,
        "stages": [
            {
                "models": stage.size,
                "requests": [cell.requests for cell in stage.cells],
                "watch_us_per_hook": stage.clock_ns / 1e3,
            }
            for stage in stages
        ],
        "settings": {
            "longest_length": plan.LENGTH,
            "blocks": plan.BLOCKS,
            "unpinned_blocks": plan.UNPINNED_BLOCKS,
            "block_steps": {stage.size: stage.block_steps for stage in plan.STAGES[engine]},
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "turbospec": __version__,
            engine: _version(engine) or _version(f"{engine}-cpu"),
        },
        "seconds": round(seconds, 1),
    }


def _cell(cell: CellTimes, plans: Sequence[PlanTime]) -> dict[str, Any]:
    adapter = [ns / 1e3 for ns in cell.adapter_ns[plan.ADAPTER_POLICY]]
    goodput = [ns / 1e3 for ns in cell.adapter_ns[plan.SIDECAR_POLICY]]
    ages = [age for age in cell.plan_ages if age is not None]
    sidecar = [
        times.nanoseconds / 1e3
        for times in plans
        if times.requests == cell.requests and times.reason != "PLAN_REASON_FIXED"
    ]
    found: dict[str, Any] = {"requests": cell.requests}
    for name, values in (
        ("adapter_us", adapter),
        ("plan_lag_steps", ages),
        ("sidecar_us", sidecar),
        ("adapter_us_goodput", goodput),
    ):
        found[f"{name}_p50"], found[f"{name}_p99"] = percentiles(values)
        if name != "plan_lag_steps":
            found[f"{name}_p50_interval"] = median_interval(values)
    found["dilation_ratio"] = None
    for name, blocks in (("dilation", cell.pinned), ("dilation_unpinned", cell.unpinned)):
        if blocks:
            found[name] = asdict(dilation(blocks)) | {"blocks": [asdict(block) for block in blocks]}
    if cell.pinned:
        found["dilation_ratio"] = found["dilation"]["ratio"]
        found["dilation_ratio_interval"] = [found["dilation"]["low"], found["dilation"]["high"]]
        found["dilation_ratio_unpinned"] = found["dilation_unpinned"]["ratio"]
    if switched := cell.switch_ns[plan.ADAPTER_POLICY]:
        found["switch_us_p50"], found["switch_us_p99"] = percentiles([ns / 1e3 for ns in switched])
        found["switch_share_goodput"] = len(cell.switch_ns[plan.SIDECAR_POLICY]) / len(goodput)
    found["steps_without_plan"] = len(cell.plan_ages) - len(ages)
    found["step_ms_p50"] = percentiles(cell.step_seconds)[0] * 1e3
    return found


def _targets(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    bounds = []
    for cell in cells:
        n = cell["requests"]
        bounds += [
            (f"adapter, median at {n} requests, us", plan.ADAPTER_TARGETS_US.get(n), cell["adapter_us_p50"]),
            (f"sidecar, median at {n} requests, us", plan.SIDECAR_TARGETS_US.get(n), cell["sidecar_us_p50"]),
            (
                f"dilation at {n} requests",
                plan.DILATION_TARGET if cell["dilation_ratio"] else None,
                cell["dilation_ratio"],
            ),
        ]
    return [
        {"name": name, "at_most": bound, "value": value, "met": value <= bound}
        for name, bound, value in bounds
        if bound is not None
    ]


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
