"""Runs the benchmark, pair by pair, then reports."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from rich.console import Console
from turbospec.engines.bench.coldstart import document, table
from turbospec.engines.bench.coldstart import profile as profiles
from turbospec.engines.bench.coldstart.engine import ENGINE_ID, ColdStartEngine
from turbospec.engines.bench.coldstart.measured import Measured
from turbospec.engines.bench.coldstart.plan import Options, planned_seconds, repeat_seconds, repeats
from turbospec.engines.processes import Children
from turbospec.engines.stage import engines
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.cores import kept_apart
from turbospec.engines.stage.display import Display
from turbospec.sidecar.profiles.profile import Profile
from turbospec.sidecar.profiles.store import Store

_SET_UP_STEPS = 2  # before the first repeat


def run(options: Options, directory: Path, json_file: Path | None, console: Console) -> Measured:
    """The whole benchmark.

    Raises NotInstalledError, ProcessFailedError, NotControlledError, ProfilingError or LoadError; whatever
    happens, no process is left behind.
    """
    began = time.monotonic()
    measured = Measured(options)
    if options.profile is not None:
        measured.profile = profiles.read(options.profile)
    steps = len(options.pairs) * (_SET_UP_STEPS + options.repeats)
    with Display(console, steps) as display:
        display.say(f"This takes about {planned_seconds(options) / 60:.0f} minutes.")
        for pair in options.pairs:
            _measure_pair(measured, pair, directory, display)
    seconds = time.monotonic() - began
    if json_file is not None:
        json_file.write_text(json.dumps(document.as_json(measured, seconds), indent=1) + "\n")
    for part in table.render(measured):
        console.print(part, highlight=False)
    console.print(f"Took {seconds / 60:.0f} min; logs are in {directory / 'logs'}.", highlight=False)
    return measured


def _measure_pair(measured: Measured, pair: str, directory: Path, display: Display) -> None:
    logs = directory / "logs" / "bench-cold-start" / pair
    logs.mkdir(parents=True, exist_ok=True)
    with (
        kept_apart(),
        tempfile.TemporaryDirectory(prefix="turbospec-") as own,
        Children(logs) as children,
    ):
        display.begin(f"{pair}: making models, starting a controller and an engine")
        models = engines.provide_models(children, directory, pair)
        controller = Controller.choose(Path(own))
        store = Store(Path(own) / "profiles", lambda event, **context: display.say(f"{event}: {context}"))
        engine = ColdStartEngine(children, models, controller, store.directory)
        display.begin(f"{pair}: warming up{'' if measured.profile else ', and profiling the engine'}")
        engine.warm_up()
        store.put(_profile(measured, controller, engine, display))
        for repeat in repeats(measured.options, pair):
            where = f"{pair}: repeat {repeat.number} of {measured.options.repeats}"
            display.begin(f"{where} (about {repeat_seconds():.0f} s)")
            for arm in repeat.arms:
                display.detail(f"{where}, {arm}")
                measured.add(pair, arm, engine.measure(arm, repeat))
        measured.repeated += engine.repeated


def _profile(
    measured: Measured, controller: Controller, engine: ColdStartEngine, display: Display
) -> Profile:
    """The pair's: measured once, for the pairs differ in their weights only."""
    target = profiles.target_of(controller, engine.url, ENGINE_ID)
    if measured.profile is None:
        measured.profile = profiles.measure(
            controller, target, lambda made, most: display.detail(f"profiling: visit {made} of up to {most}")
        )
    return profiles.of_engine(measured.profile, target.key)
