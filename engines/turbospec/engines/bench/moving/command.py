"""The command `turbospec bench moving`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from turbospec.engines.bench import options
from turbospec.engines.bench.moving.plan import MOVING, PARTS, Options, planned_seconds
from turbospec.engines.stage import command

_DESCRIPTION = """\
Shows on a real vLLM that control follows load that moves and requests that differ, in three parts:

  moving        load steps from 1 to 32 requests at once and back, on a draft model that agrees often
                (high) and on one that does not (low): lengths and tokens per second over time, and how
                long lengths take to settle after each step
  mixed         n-gram speculation for requests of which half copy and half do not: tokens per second
                under no speculation, static lengths and goodput, and the lengths that each half gets
  temperatures  the same with a draft model, for requests with three temperatures
"""

_MIN_PHASE_SECONDS = 10.0  # lengths settle, and hold
_FORMATS = (".png", ".svg")


def add_parser(benchmarks: Any) -> None:
    """Adds `moving`."""
    defaults = Options()
    parser = options.add_benchmark(
        benchmarks,
        "moving",
        summary="lengths that follow moving load and differing requests",
        description=_DESCRIPTION,
        seconds=planned_seconds(defaults),
    )
    parser.add_argument(
        "--parts",
        type=options.some_of(PARTS),
        default=defaults.parts,
        metavar="NAME,NAME",
        help=f"which parts to run (default: {','.join(defaults.parts)})",
    )
    options.add_pairs(parser, of="moving: ")
    parser.add_argument(
        "--phase-seconds",
        type=_phase_seconds,
        default=defaults.phase_seconds,
        metavar="N",
        help=f"moving: time between steps of load (default: {defaults.phase_seconds:g})",
    )
    options.add_repeats(parser, defaults.repeats, of="mixed, temperatures: ")
    parser.add_argument(
        "--seconds",
        type=command.seconds,
        default=defaults.seconds,
        metavar="N",
        help=f"mixed, temperatures: how long each time (default: {defaults.seconds:g})",
    )
    command.add_file_options(parser)
    parser.add_argument(
        "--picture",
        type=_picture,
        metavar="FILE",
        help=f"moving: also draw the timelines ({' or '.join(_FORMATS)}, by FILE's name)",
    )
    parser.set_defaults(func=lambda args: run(args, parser))


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Runs it. Returns 1 where it fails, 2 where something is not installed."""
    if args.picture is not None and MOVING not in args.parts:
        parser.error(f"--picture shows the part {MOVING!r}, which is not among --parts")
    drawing = () if args.picture is None else ("bench",)
    return command.run_command("bench moving", lambda: _bench(args), extras=("demo", "sidecar", *drawing))


def _bench(args: argparse.Namespace) -> None:
    from rich.console import Console
    from turbospec.engines.bench.moving import runner

    chosen = Options(args.parts, args.pairs, args.phase_seconds, args.repeats, args.seconds)
    runner.run(chosen, args.directory, args.json, args.picture, Console())


def _phase_seconds(text: str) -> float:
    value = command.seconds(text)
    if value < _MIN_PHASE_SECONDS:
        raise argparse.ArgumentTypeError(f"must be at least {_MIN_PHASE_SECONDS:.0f}, got {text!r}")
    return value


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix not in _FORMATS:
        raise argparse.ArgumentTypeError(f"must end in {' or '.join(_FORMATS)}, got {text!r}")
    return path
