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
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.counters import Counters
from turbospec.engines.stage.display import Display
from turbospec.engines.stage.engines import MODEL_NAME, Engine, provide_models
from turbospec.engines.stage.kinds import KINDS, EngineKind
from turbospec.engines.stage.steering import NotControlledError, Steering

STATIC_LENGTH = 4
"""What an operator would typically have configured."""
# Longer than that, so that the table shows lengths that rise and fall with the load.
_LONGEST_LENGTH = 6
POLICIES = (NONE, "idle", f"static:{STATIC_LENGTH}", table.CONTROLLED)
_ENGINE_ID = "demo"

# Every cell: requests are admitted together, and a changed policy needs a few steps to take effect.
_RAMP_SECONDS = 2.5
# Once per engine, alone and crowded: first steps allocate.
_WARM_UP_SECONDS = 2.0
_ATTEMPTS = 3
_WORKLOAD = Workload(MODEL_NAME, SHAPES["demo"].vocabulary)


@dataclass(frozen=True, slots=True)
class Options:
    """What a person chooses. `engine` is one of KINDS; `seconds` is how long each cell is measured."""

    engine: str
    directory: Path
    agreement: str
    concurrencies: Sequence[int]
    seconds: float
    json_file: Path | None


@dataclass(frozen=True, slots=True)
class _Stage:
    """The two engines and their controller."""

    kind: EngineKind
    controller: Controller
    controlled: Engine
    plain: Engine

    def _engine(self, policy: str) -> Engine:
        return self.plain if policy == NONE else self.controlled

    def load(self, policy: str, concurrency: int, ramp: float, seconds: float) -> LoadResult:
        """What users of the engine that `policy` runs on receive; nothing runs there afterwards."""
        engine = self._engine(policy)
        result = asyncio.run(
            drive(engine.url, _WORKLOAD, concurrency=concurrency, ramp_seconds=ramp, seconds=seconds)
        )
        self.kind.end_requests(engine)
        return result

    def counters(self, policy: str) -> Counters:
        """What that engine has counted so far."""
        return self.kind.read_counters(self._engine(policy), self.controller)


def run(options: Options, console: Console) -> Results:
    """The whole demonstration.

    Raises NotInstalledError, ProcessFailedError, NotControlledError or LoadError; whatever
    happens, no process is left behind.
    """
    began = time.monotonic()
    kind = KINDS[options.engine]
    kind.check_runs_here()
    logs = options.directory / "logs"
    steps = 5 + len(options.concurrencies) * len(POLICIES)
    with Display(console, steps) as display:
        logs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="turbospec-demo-") as sockets, Children(logs) as children:
            display.begin("making models")
            models = provide_models(children, options.directory, options.agreement)
            controller = Controller.choose(Path(sockets))
            stage = _start(kind, children, controller, models, display)
            with Steering(controller.introspection, controller.operations, _ENGINE_ID) as steering:
                measured = _measure(options, stage, steering, display)
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
    kind: EngineKind, children: Children, controller: Controller, models: MadeModels, display: Display
) -> _Stage:
    display.begin("starting the controller")
    controller.start(children)
    display.begin(f"starting {kind.NAME} twice, controlled and without speculation (about a minute)")
    controlled = kind.start_controlled(children, _ENGINE_ID, models, controller, longest=_LONGEST_LENGTH)
    plain = kind.start_without_speculation(children, NONE, models)
    controlled.wait_healthy()
    plain.wait_healthy()
    for line in ways_to_look(controller, controlled):
        display.say(line)
    return _Stage(kind, controller, controlled, plain)


def _measure(options: Options, stage: _Stage, steering: Steering, display: Display) -> list[Cell]:
    """All cells. One engine is under load at a time; the other sleeps."""
    highest = max(options.concurrencies)
    display.begin("warming up")
    steering.wait_connected()
    steering.set_policy(table.CONTROLLED)
    for policy, seconds in ((NONE, _WARM_UP_SECONDS), (table.CONTROLLED, stage.kind.LEARNING_SECONDS)):
        for concurrency in sorted({1, highest}):
            stage.load(policy, concurrency, _WARM_UP_SECONDS, seconds)
    cells = []
    for turn, concurrency in enumerate(options.concurrencies):
        # Another order each time, so that a machine that slows down favours no policy.
        for policy in (*POLICIES[turn % len(POLICIES) :], *POLICIES[: turn % len(POLICIES)]):
            display.begin(f"{policy} with {concurrency} requests at once")

            def measure(policy: str = policy, concurrency: int = concurrency) -> Cell:
                with nullcontext() if policy == NONE else steering.following(policy):
                    before = stage.counters(policy)
                    load = stage.load(policy, concurrency, _RAMP_SECONDS, options.seconds)
                return cell(concurrency, policy, load, stage.counters(policy).since(before))

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


def _write(options: Options, results: Results, summary: str, seconds: float) -> None:
    document = {
        "turbospec_version": __version__,
        "engine": options.engine,
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
