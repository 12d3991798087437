"""Runs the benchmark: the sidecar on one core, the engine of one stage after the other on the other core."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from turbospec.adapters.address import CONTROL_ADDRESS_VARIABLE
from turbospec.adapters.support import ENGINE_ID_VARIABLE
from turbospec.engines.bench.hotpath import document, sglang, table
from turbospec.engines.bench.hotpath.engine import ENVIRONMENT
from turbospec.engines.bench.hotpath.measured import StageTimes, read_plan_times, read_stage
from turbospec.engines.bench.hotpath.plan import STAGES, VLLM
from turbospec.engines.bench.hotpath.worker import Settings
from turbospec.engines.processes import Child, Children, ProcessFailedError
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.kinds import KINDS

_PACKAGE = "turbospec.engines.bench.hotpath"
_START_SECONDS = 120.0


def run(engine: str, directory: Path, json_file: Path | None, console: Console) -> dict[str, Any]:
    """The whole benchmark on an engine, by its name; its document.

    Raises NotInstalledError where the engine cannot run here, ProcessFailedError where a process fails;
    whatever happens, none is left behind.
    """
    began = time.monotonic()
    KINDS[engine].check_runs_here()
    logs = directory / "logs" / "bench-hotpath"
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="turbospec-") as scratch, Children(logs) as children:
        stages, plans = _measure(engine, children, directory, Path(scratch), console)
    result = document.as_json(stages, plans, time.monotonic() - began, engine)
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n")
    for line in table.render(result):
        console.print(line, highlight=False)
    console.print(f"Took {result['seconds'] / 60:.0f} min; logs are in {logs}.", highlight=False)
    return result


def _measure(
    engine: str, children: Children, directory: Path, scratch: Path, console: Console
) -> tuple[list[StageTimes], Any]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise ProcessFailedError("two cores are needed: one for the engine, one for the sidecar")
    controller = Controller.choose(scratch)
    plan_times = scratch / "plans.jsonl"
    sidecar, pid = start_sidecar(children, controller, plan_times)
    stages = []
    for index, stage in enumerate(STAGES[engine]):
        counts = " and ".join(str(cell.requests) for cell in stage.cells)
        console.print(f"{counts} requests, {stage.size} models …", highlight=False)
        output = scratch / f"stage-{index}.json"
        settings = Settings(
            stage=index,
            models=str(directory),
            engine_id=f"hotpath-{stage.size}",
            introspection=controller.introspection,
            operations=controller.operations,
            sidecar=pid,
            cores=(cores[0], cores[1]),
            output=str(output),
        )
        environment = {
            **(ENVIRONMENT if engine == VLLM else sglang.environment()),
            "TMPDIR": str(scratch),  # SGLang leaves the files of its sockets behind
            CONTROL_ADDRESS_VARIABLE: controller.control,
            ENGINE_ID_VARIABLE: settings.engine_id,
        }
        argv = [sys.executable, "-m", f"{_PACKAGE}.process", engine, json.dumps(asdict(settings))]
        children.start(f"{engine}-{stage.size}", argv, environment).wait_done()
        stages.append(read_stage(output))
    sidecar.stop()  # it writes what it measured when it ends
    return stages, read_plan_times(plan_times)


def start_sidecar(children: Children, controller: Controller, plan_times: Path) -> tuple[Child, int]:
    """The sidecar with a stopwatch, once it serves, and its process id; `plan_times` is written at last."""
    ready = plan_times.with_name("ready.json")
    sidecar = children.start(
        "controller",
        [
            *(sys.executable, "-m", f"{_PACKAGE}.controller", str(plan_times)),
            *("--control-address", controller.control),
            *("--operations-address", controller.operations),
            *("--introspection-address", controller.introspection),
            *("--ready-file", str(ready)),
        ],
        {},
    )
    sidecar.wait_until(ready.exists, _START_SECONDS)
    return sidecar, int(json.loads(ready.read_text())["pid"])
