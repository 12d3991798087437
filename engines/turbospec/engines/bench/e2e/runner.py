"""Runs the benchmark: engines, calibration, all windows in their order, then the report."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from turbospec.engines.bench.e2e import calibration, contenders, document, table
from turbospec.engines.bench.e2e.contenders import Contenders
from turbospec.engines.bench.e2e.lineup import Lineup, Place
from turbospec.engines.bench.e2e.measured import Calibration, Measured
from turbospec.engines.bench.e2e.schedule import (
    GOODPUT,
    IDLE,
    LONGEST_LENGTH,
    NONE,
    RAMP_SECONDS,
    SETTLE_SECONDS,
    STATICS,
    TABLE,
    Options,
    block_seconds,
    blocks,
    planned_seconds,
)
from turbospec.engines.bench.e2e.scoring import Scores
from turbospec.engines.load import LoadError
from turbospec.engines.processes import Children
from turbospec.engines.stage.command import MAX_CONCURRENCY
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.cores import kept_apart
from turbospec.engines.stage.display import Display
from turbospec.engines.stage.kinds import KINDS

_CALIBRATION_SECONDS = 2.0
# Once per engine and concurrency: first steps allocate, and the controller learns costs and acceptance.
_WARM_UP_SECONDS = 2.5
_SEED = 0  # of what comes before the repeats, which have their own numbers as seeds
_SET_UP_STEPS = 4  # before the first block


def run(options: Options, directory: Path, json_file: Path | None, console: Console) -> Measured:
    """The whole benchmark.

    Raises NotInstalledError, ProcessFailedError, NotControlledError or LoadError; whatever happens, no
    process is left behind.
    """
    began = time.monotonic()
    KINDS[options.engine].check_runs_here()
    measured = Measured(options)
    per_pair = _SET_UP_STEPS + options.repeats * len(options.concurrencies)
    with Display(console, len(options.pairs) * per_pair) as display:
        display.say(f"This takes about {planned_seconds(options) / 60:.0f} minutes.")
        for done, pair in enumerate(options.pairs):
            later = planned_seconds(options) * (len(options.pairs) - done - 1) / len(options.pairs)
            _measure_pair(measured, pair, directory, display, later)
    seconds = time.monotonic() - began
    scores = Scores(measured.speeds(), (NONE, *STATICS))
    if json_file is not None:
        json_file.write_text(json.dumps(document.as_json(measured, scores, seconds), indent=2) + "\n")
    for part in table.render(measured, scores):
        console.print(part, highlight=False)
    console.print(f"Took {seconds / 60:.0f} min; logs are in {directory / 'logs'}.", highlight=False)
    return measured


def _measure_pair(measured: Measured, pair: str, directory: Path, display: Display, later: float) -> None:
    """All of one pair's windows. `later`: seconds that the pairs after it will take."""
    options = measured.options
    logs = directory / "logs" / "bench-e2e" / f"{options.engine}-{pair}"
    place = Place(ramp_seconds=options.pace * RAMP_SECONDS)
    logs.mkdir(parents=True, exist_ok=True)
    with (
        kept_apart(),
        tempfile.TemporaryDirectory(prefix="turbospec-") as sockets,
        Children(logs) as children,
    ):
        display.begin(f"{pair}: making models, starting the controller and the engines (some minutes)")
        controller = Controller.choose(Path(sockets))
        controller.start(children)
        started = contenders.start(options.engine, children, directory, pair, controller)
        with Lineup(started.engines, controller, place, kind=KINDS[options.engine]) as lineup:
            display.say(f"  look inside meanwhile: turbospec status --address {controller.introspection}")
            if started.start_table is not None:
                measured.calibrations[pair] = _calibrate(options, pair, lineup, started, display)
            _warm_up(options, pair, lineup, display)
            blocks_left = options.repeats * len(options.concurrencies)
            for block in blocks(options, pair):
                minutes = (blocks_left * block_seconds(options) + later) / 60
                blocks_left -= 1
                where = f"{pair}: repeat {block.repeat}, {block.concurrency} at once"
                display.begin(f"{where} (about {minutes:.0f} min left)")
                for policy in block.policies:
                    display.detail(f"{where}: {policy} (about {minutes:.0f} min left)")
                    if policy == GOODPUT:
                        settle = options.pace * SETTLE_SECONDS
                        lineup.measure(policy, block.concurrency, settle, seed=_SEED)
                    window = lineup.measure(policy, block.concurrency, options.seconds, seed=block.repeat)
                    if not window.tokens_per_second:
                        raise LoadError(f"{where}: {policy}: no token came; measure for longer (--seconds)")
                    measured.add(pair, block.concurrency, policy, window)
                display.say(f"  {where}: {measured.newest(pair, block.concurrency)}")
            measured.repeated += lineup.repeated


def _calibrate(
    options: Options, pair: str, lineup: Lineup, started: Contenders, display: Display
) -> Calibration:
    """Chooses the table's entries, and adds its engine."""
    display.begin(f"{pair}: calibrating the table")
    chosen, speeds = {}, {}
    for concurrency in options.concurrencies:
        lineup.measure(IDLE, concurrency, _WARM_UP_SECONDS, seed=_SEED)
        chosen[concurrency], speeds[concurrency] = calibration.best_length(
            _measure_length(lineup, concurrency), range(LONGEST_LENGTH + 1), _CALIBRATION_SECONDS
        )
    entries = calibration.as_table(chosen, MAX_CONCURRENCY)
    display.begin(f"{pair}: starting an engine with the table {entries}")
    assert started.start_table is not None
    lineup.add(TABLE, started.start_table(entries))
    return Calibration(entries, speeds)


def _warm_up(options: Options, pair: str, lineup: Lineup, display: Display) -> None:
    display.begin(f"{pair}: warming up")
    # Without a table nothing has run on the engine of the fixed lengths yet.
    policies = (NONE, options.own, GOODPUT) if options.own == TABLE else (NONE, IDLE, options.own, GOODPUT)
    for policy in policies:
        for concurrency in options.concurrencies:
            lineup.measure(policy, concurrency, options.pace * _WARM_UP_SECONDS, seed=_SEED)


def _measure_length(lineup: Lineup, concurrency: int) -> Callable[[int, float], float]:
    def measure(length: int, seconds: float) -> float:
        policy = f"static:{length}" if length else IDLE
        return lineup.measure(policy, concurrency, seconds, seed=_SEED).tokens_per_second

    return measure
