"""The part `cost`: what the adapter takes from each step, how old plans are, how much longer steps become."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from turbospec.adapters.address import CONTROL_ADDRESS_VARIABLE
from turbospec.adapters.support import ENGINE_ID_VARIABLE
from turbospec.engines.bench.gpu import worker
from turbospec.engines.bench.gpu.device import in_process
from turbospec.engines.bench.gpu.plan import FULL, Scale
from turbospec.engines.bench.hotpath import plan
from turbospec.engines.bench.hotpath.engine import Engine
from turbospec.engines.bench.hotpath.measured import Block, CellTimes, PlanTime, read_plan_times
from turbospec.engines.bench.hotpath.plan import Cell, Stage
from turbospec.engines.bench.hotpath.runner import start_sidecar
from turbospec.engines.bench.hotpath.scoring import dilation, percentiles
from turbospec.engines.bench.hotpath.worker import Settings as StageSettings
from turbospec.engines.bench.hotpath.worker import Worker
from turbospec.engines.instant_models import write_pair
from turbospec.engines.processes import Children
from turbospec.engines.stage.controller import Controller

_ENGINE_ID = "gpu-cost"
_BLOCK_STEPS, _SMALL_BLOCK_STEPS = 150, 30


def stage_of(scale: Scale, pair: str) -> Stage:
    """As many requests as the load has; a block's steps, and how often the adapter is watched."""
    steps = _BLOCK_STEPS if scale.name == FULL.name else _SMALL_BLOCK_STEPS
    context = 64 + (steps + plan.WARM_STEPS) * (plan.LENGTH + 1)
    return Stage(pair, context, steps, tuple(Cell(n, 2 * steps, dilation=True) for n in scale.concurrencies))


def run(settings: worker.Settings, logs: Path) -> dict[str, Any]:
    """Starts the sidecar and the engine's process; what both measured."""
    with tempfile.TemporaryDirectory(prefix="turbospec-") as scratch, Children(logs) as children:
        controller = Controller.choose(Path(scratch))
        plan_times = Path(scratch) / "plans.jsonl"
        sidecar, pid = start_sidecar(children, controller, plan_times)
        options = {
            **settings.options,
            "introspection": controller.introspection,
            "operations": controller.operations,
            "sidecar": pid,
        }
        variables = {CONTROL_ADDRESS_VARIABLE: controller.control, ENGINE_ID_VARIABLE: _ENGINE_ID}
        found = worker.run(children, replace(settings, options=options), variables)
        sidecar.stop()  # it writes what it measured when it ends
        plans = read_plan_times(plan_times)
    return {"cells": [_cell(cell, plans) for cell in found], "longest_length": plan.LENGTH}


def measure(settings: worker.Settings) -> list[dict[str, Any]]:
    """In the engine's process: all cells."""
    scale, options = settings.sizes, settings.options
    stage = stage_of(replace(scale, concurrencies=tuple(options["concurrencies"])), settings.pair)
    models = write_pair(Path(settings.models), settings.pair, options["eps"])
    stage_settings = StageSettings(
        stage=0,
        models=settings.models,
        engine_id=_ENGINE_ID,
        introspection=options["introspection"],
        operations=options["operations"],
        sidecar=options["sidecar"],
        cores=None,
        output=settings.output,
    )
    # Steps of both kinds must do the same work, one after the other.
    arguments = in_process(scale, asynchronous=False)
    made = Worker(
        stage_settings, stage, lambda: Engine(models, stage.requests, stage.context, arguments=arguments)
    )
    return [asdict(cell) for cell in made.measure().cells]


def _cell(raw: dict[str, Any], plans: list[PlanTime]) -> dict[str, Any]:
    cell = CellTimes(**{**raw, "pinned": [Block(**block) for block in raw["pinned"]]})
    ages = [age for age in cell.plan_ages if age is not None]
    sidecar = [
        times.nanoseconds / 1e3
        for times in plans
        if times.requests == cell.requests and times.reason != "PLAN_REASON_FIXED"
    ]
    adapter = [nanoseconds / 1e3 for nanoseconds in cell.adapter_ns[plan.ADAPTER_POLICY]]
    found: dict[str, Any] = {"requests": cell.requests, "steps_without_plan": len(cell.plan_ages) - len(ages)}
    for name, values in (("adapter_us", adapter), ("plan_lag_steps", ages), ("sidecar_us", sidecar)):
        found[f"{name}_p50"], found[f"{name}_p99"] = percentiles(values) if values else (None, None)
    return found | {"dilation": asdict(dilation(cell.pinned)), "blocks": len(cell.pinned)}
