"""Runs the demonstration: sets the stage, measures every cell, tells what came out."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from turbospec.adapters.version import __version__
from turbospec.engines.demo import counters, stage, table
from turbospec.engines.demo.display import Display
from turbospec.engines.demo.inside import ways_to_look
from turbospec.engines.demo.results import NONE, Cell, Results, cell
from turbospec.engines.demo.stage import Stage
from turbospec.engines.demo.steering import Steering
from turbospec.engines.load import LoadResult, Workload, drive
from turbospec.engines.models import SHAPES, MadeModels
from turbospec.engines.processes import Children

POLICIES = (NONE, "idle", f"static:{stage.STATIC_LENGTH}", table.CONTROLLED)

# Every cell: requests are admitted together, and a changed policy needs a few steps to take effect.
_RAMP_SECONDS = 2.5
# Once per engine: first steps allocate, and the controller learns what steps cost and what is accepted.
_WARM_UP_SECONDS = 4.0
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a person chooses. `seconds` is how long each cell is measured."""

    directory: Path
    agreement: str
    concurrencies: Sequence[int]
    seconds: float
    json_file: Path | None


def run(options: Options, console: Console) -> Results:
    """The whole demonstration.

    Raises NotInstalledError, ProcessFailedError, NotControlledError or LoadError; whatever
    happens, no process is left behind.
    """
    began = time.monotonic()
    logs = options.directory / "logs"
    steps = 5 + len(options.concurrencies) * len(POLICIES)
    with Display(console, steps) as display:
        logs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="turbospec-demo-") as sockets, Children(logs) as children:
            display.begin("making models")
            models = stage.provide_models(children, options.directory, options.agreement)
            places = Stage.choose(Path(sockets))
            _start(children, places, models, display)
            with Steering(places.introspection, places.operations, stage.ENGINE_ID) as steering:
                measured = _measure(options, places, steering, display)
            display.begin("stopping")
    results = Results(measured)
    console.print(table.render(results, POLICIES))
    summary = table.sentence(results, POLICIES)
    console.print(summary, highlight=False)
    console.print(f"Took {time.monotonic() - began:.0f} s; logs are in {logs}.", highlight=False)
    if options.json_file is not None:
        _write(options, results, summary, time.monotonic() - began)
    return results


def _start(children: Children, places: Stage, models: MadeModels, display: Display) -> None:
    display.begin("starting the controller")
    stage.start_controller(children, places)
    display.begin("starting vLLM twice, controlled and without speculation (about a minute)")
    controlled, plain = stage.start_engines(children, places, models)
    stage.wait_engine(controlled, places.controlled)
    stage.wait_engine(plain, places.plain)
    for line in ways_to_look(places):
        display.say(line)


def _measure(options: Options, places: Stage, steering: Steering, display: Display) -> list[Cell]:
    """All cells. One engine is under load at a time; the other sleeps."""
    workload = Workload(stage.MODEL_NAME, SHAPES["demo"].vocabulary)
    highest = max(options.concurrencies)
    display.begin("warming up")
    steering.wait_connected(_CONNECT_SECONDS)
    steering.set_policy(table.CONTROLLED)
    for url in (places.plain, places.controlled):
        for concurrency in sorted({1, highest}):
            _load(url, workload, concurrency, _WARM_UP_SECONDS / 2, _WARM_UP_SECONDS / 2)
    steering.check_controlled(table.CONTROLLED)
    cells = []
    for turn, concurrency in enumerate(options.concurrencies):
        # Another order each time, so that a machine that slows down favours no policy.
        for policy in (*POLICIES[turn % len(POLICIES) :], *POLICIES[: turn % len(POLICIES)]):
            display.begin(f"{policy} with {concurrency} requests at once")
            url = places.plain if policy == NONE else places.controlled
            if policy != NONE:
                steering.set_policy(policy)
            before = counters.read(url)
            load = _load(url, workload, concurrency, _RAMP_SECONDS, options.seconds)
            if policy != NONE:
                steering.check_controlled(policy)
            cells.append(cell(concurrency, policy, load, counters.read(url).since(before)))
            display.say(f"  {concurrency:>3} at once  {policy:<10} {load.tokens_per_second:7.0f} tokens/s")
    return cells


def _load(url: str, workload: Workload, concurrency: int, ramp: float, seconds: float) -> LoadResult:
    return asyncio.run(drive(url, workload, concurrency=concurrency, ramp_seconds=ramp, seconds=seconds))


def _write(options: Options, results: Results, summary: str, seconds: float) -> None:
    document = {
        "turbospec_version": __version__,
        "agreement": options.agreement,
        "static_length": stage.STATIC_LENGTH,
        "seconds_per_cell": options.seconds,
        "total_seconds": seconds,
        "cells": results.as_json(),
        "summary": summary,
    }
    if options.json_file is not None:
        options.json_file.write_text(json.dumps(document, indent=2) + "\n")
