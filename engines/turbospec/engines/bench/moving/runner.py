"""Runs the benchmark, part by part, then reports."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from turbospec.engines.bench.moving import document, table
from turbospec.engines.bench.moving.measured import Measured, MixMeasured
from turbospec.engines.bench.moving.mix import MIXES, Lineup
from turbospec.engines.bench.moving.observation import observe
from turbospec.engines.bench.moving.plan import (
    GOODPUT,
    IDLE,
    LOAD,
    LONGEST_LENGTH,
    MOVING,
    NONE,
    PROMPT_TOKENS,
    SETTLE_SECONDS,
    STATICS,
    WARM_UP_SECONDS,
    Options,
    orders,
    planned_seconds,
)
from turbospec.engines.load import Workload, drive
from turbospec.engines.models import SHAPES, MadeModels
from turbospec.engines.processes import Children
from turbospec.engines.stage import engines, vllm
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.cores import kept_apart
from turbospec.engines.stage.display import Display
from turbospec.engines.stage.steering import Steering

_ENGINE_ID = "moving"
_MIX_PAIR = "high"
# Shorter than the default: those that ran while the drafter was skipped end sooner, so speculation returns.
_OUTPUT_TOKENS = (48, 144)


def run(
    options: Options, directory: Path, json_file: Path | None, picture_file: Path | None, console: Console
) -> Measured:
    """The whole benchmark.

    Raises NotInstalledError, ProcessFailedError, NotControlledError or LoadError; whatever happens, no
    process is left behind.
    """
    began = time.monotonic()
    measured = Measured(options)
    with Display(console, _steps(options)) as display:
        display.say(f"This takes about {planned_seconds(options) / 60:.0f} minutes.")
        for part in options.parts:
            if part == MOVING:
                for pair in options.pairs:
                    _run_moving(measured, pair, directory, display)
            else:
                _run_mix(measured, part, directory, display)
    seconds = time.monotonic() - began
    if json_file is not None:
        json_file.write_text(json.dumps(document.as_json(measured, seconds), indent=1) + "\n")
    if picture_file is not None:
        from turbospec.engines.bench.moving.picture import draw

        draw(measured.timelines, picture_file)
    for line in table.render(measured):
        console.print(line, highlight=False)
    console.print(f"Took {seconds / 60:.0f} min; logs are in {directory / 'logs'}.", highlight=False)
    return measured


def _steps(options: Options) -> int:
    """How often progress is shown."""
    moving = len(options.pairs) * (2 + len(LOAD))
    return sum(moving if part == MOVING else 2 + options.repeats for part in options.parts)


@contextmanager
def _stage(directory: Path, name: str, pair: str) -> Iterator[tuple[Children, MadeModels, Controller]]:
    """Made models and a controller; children are ended with the block."""
    logs = directory / "logs" / "bench-moving" / name
    logs.mkdir(parents=True, exist_ok=True)
    with (
        kept_apart(),
        tempfile.TemporaryDirectory(prefix="turbospec-") as sockets,
        Children(logs) as children,
    ):
        models = engines.provide_models(children, directory, pair)
        controller = Controller.choose(Path(sockets))
        controller.start(children)
        yield children, models, controller


def _run_moving(measured: Measured, pair: str, directory: Path, display: Display) -> None:
    what = f"{MOVING}, {pair} agreement"
    display.begin(f"{what}: making models, starting the controller and an engine")
    with _stage(directory, f"{MOVING}-{pair}", pair) as (children, models, controller):
        engine = vllm.start_controlled(children, _ENGINE_ID, models, controller, longest=LONGEST_LENGTH)
        engine.wait_healthy()
        workload = Workload(engines.MODEL_NAME, SHAPES["demo"].vocabulary, PROMPT_TOKENS, _OUTPUT_TOKENS)
        with Steering(controller.introspection, controller.operations, _ENGINE_ID) as steering:
            steering.wait_connected()
            display.begin(f"{what}: warming the engine up, at length 0: all else is to be learned")
            steering.set_policy(IDLE)
            for requests in sorted(set(LOAD)):
                _warm_up(engine.url, workload, requests)
            steering.set_policy(GOODPUT)

            def on_phase(requests: int) -> None:
                display.begin(f"{what}: {requests} at once, {measured.options.phase_seconds:g} s")

            measured.timelines.append(
                asyncio.run(
                    observe(
                        pair,
                        engine.url,
                        workload,
                        controller.introspection,
                        _ENGINE_ID,
                        measured.options.phase_seconds,
                        on_phase,
                    )
                )
            )
            steering.check_controlled(GOODPUT)


def _warm_up(url: str, workload: Workload, requests: int) -> None:
    """First steps of each batch size allocate memory and choose kernels."""
    asyncio.run(drive(url, workload, concurrency=requests, ramp_seconds=0.0, seconds=WARM_UP_SECONDS))


def _run_mix(measured: Measured, part: str, directory: Path, display: Display) -> None:
    display.begin(f"{part}: making models, starting the controller and three engines (about a minute)")
    options = measured.options
    with (
        _stage(directory, part, _MIX_PAIR) as (children, models, controller),
        Lineup(children, models, controller, MIXES[part]) as lineup,
    ):
        display.begin(f"{part}: warming up")
        for policy in (NONE, STATICS[-1]):
            lineup.measure(policy, WARM_UP_SECONDS, seed=0)
        lineup.measure(GOODPUT, SETTLE_SECONDS, seed=0)
        mix = MixMeasured(part)
        for repeat, policies in orders(options, part):
            display.begin(f"{part}: repeat {repeat} of {options.repeats}")
            for policy in policies:
                display.detail(f"{part}: repeat {repeat} of {options.repeats}, {policy}")
                mix.windows[policy].append(lineup.measure(policy, options.seconds, seed=repeat))
    measured.mixes.append(mix)
