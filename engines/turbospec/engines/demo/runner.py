"""Runs the demonstration: sets the stage, measures every cell, tells what came out."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from turbospec.adapters.version import __version__
from turbospec.engines.demo import table
from turbospec.engines.demo.inside import ways_to_look
from turbospec.engines.demo.results import NONE, Cell, Results, cell
from turbospec.engines.load import LoadResult, Workload, drive
from turbospec.engines.models import SHAPES, MadeModels
from turbospec.engines.processes import Children
from turbospec.engines.stage import counters, engines
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.display import Display
from turbospec.engines.stage.engines import Engine
from turbospec.engines.stage.steering import NotControlledError, Steering

STATIC_LENGTH = 4
"""What an operator would typically have configured."""
# Longer than that, so that the table shows lengths that rise and fall with the load.
_LONGEST_LENGTH = 6
POLICIES = (NONE, "idle", f"static:{STATIC_LENGTH}", table.CONTROLLED)
_ENGINE_ID = "demo"

# Every cell: requests are admitted together, and a changed policy needs a few steps to take effect.
_RAMP_SECONDS = 2.5
# Once per engine: first steps allocate, and the controller learns what steps cost and what is accepted.
_WARM_UP_SECONDS = 4.0
_ATTEMPTS = 3
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
            models = engines.provide_models(children, options.directory, options.agreement)
            controller = Controller.choose(Path(sockets))
            controlled, plain = _start(children, controller, models, display)
            with Steering(controller.introspection, controller.operations, _ENGINE_ID) as steering:
                measured = _measure(options, controlled, plain, steering, display)
            display.begin("stopping")
    results = Results(measured)
    console.print(table.render(results, POLICIES))
    summary = table.sentence(results, POLICIES)
    console.print(summary, highlight=False)
    console.print(f"Took {time.monotonic() - began:.0f} s; logs are in {logs}.", highlight=False)
    if options.json_file is not None:
        _write(options, results, summary, time.monotonic() - began)
    return results


def _start(
    children: Children, controller: Controller, models: MadeModels, display: Display
) -> tuple[Engine, Engine]:
    display.begin("starting the controller")
    controller.start(children)
    display.begin("starting vLLM twice, controlled and without speculation (about a minute)")
    controlled = engines.start_controlled(children, _ENGINE_ID, models, controller, longest=_LONGEST_LENGTH)
    plain = engines.start_without_speculation(children, NONE, models)
    controlled.wait_healthy()
    plain.wait_healthy()
    for line in ways_to_look(controller, controlled):
        display.say(line)
    return controlled, plain


def _measure(
    options: Options, controlled: Engine, plain: Engine, steering: Steering, display: Display
) -> list[Cell]:
    """All cells. One engine is under load at a time; the other sleeps."""
    workload = Workload(engines.MODEL_NAME, SHAPES["demo"].vocabulary)
    highest = max(options.concurrencies)
    display.begin("warming up")
    steering.wait_connected(_CONNECT_SECONDS)
    steering.set_policy(table.CONTROLLED)
    for url in (plain.url, controlled.url):
        for concurrency in sorted({1, highest}):
            _load(url, workload, concurrency, _WARM_UP_SECONDS / 2, _WARM_UP_SECONDS / 2)
    cells = []
    for turn, concurrency in enumerate(options.concurrencies):
        # Another order each time, so that a machine that slows down favours no policy.
        for policy in (*POLICIES[turn % len(POLICIES) :], *POLICIES[: turn % len(POLICIES)]):
            display.begin(f"{policy} with {concurrency} requests at once")

            def measure(policy: str = policy, concurrency: int = concurrency) -> Cell:
                url = plain.url if policy == NONE else controlled.url
                with nullcontext() if policy == NONE else steering.following(policy):
                    before = counters.read(url)
                    load = _load(url, workload, concurrency, _RAMP_SECONDS, options.seconds)
                return cell(concurrency, policy, load, counters.read(url).since(before))

            cells.append(_persistently(measure, display))
            speed = cells[-1].tokens_per_second
            display.say(f"  {concurrency:>3} at once  {policy:<10} {speed:7.0f} tokens/s")
    return cells


def _persistently(measure: Callable[[], Cell], display: Display) -> Cell:
    """Measures again where a hiccup of the machine made a plan expire. Raises NotControlledError at last."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return measure()
        except NotControlledError as error:
            display.say(f"  measured again, because {error}")
    return measure()


def _load(url: str, workload: Workload, concurrency: int, ramp: float, seconds: float) -> LoadResult:
    return asyncio.run(drive(url, workload, concurrency=concurrency, ramp_seconds=ramp, seconds=seconds))


def _write(options: Options, results: Results, summary: str, seconds: float) -> None:
    document = {
        "turbospec_version": __version__,
        "agreement": options.agreement,
        "static_length": STATIC_LENGTH,
        "longest_length": _LONGEST_LENGTH,
        "seconds_per_cell": options.seconds,
        "total_seconds": seconds,
        "cells": results.as_json(),
        "summary": summary,
    }
    if options.json_file is not None:
        options.json_file.write_text(json.dumps(document, indent=2) + "\n")
