"""The command `turbospec bench cold-start`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from turbospec.engines.bench import options
from turbospec.engines.bench.coldstart.plan import (
    FIRST_STEPS,
    LATER,
    LOADS,
    PHASE_STEPS,
    Options,
    planned_seconds,
)
from turbospec.engines.stage import command

_LOADS = ", ".join(map(str, LOADS))
_LATER_STEPS = len(LATER) * PHASE_STEPS
_DESCRIPTION = f"""\
Measures what starting without a latency profile costs on a real vLLM, with a draft model that agrees often
(high) and one that does not (low):

  cold    goodput, a controller that has just started and has no profile
  warm    the same with the engine's offline profile
  off     length 0 with the drafter skipped: nothing is learned, nothing is risked

Each has the same load, which changes every {PHASE_STEPS} steps of the engine among {_LOADS} requests at once,
while others end and arrive: {FIRST_STEPS} steps first, then {_LATER_STEPS} more for cold and warm.
Controllers are started anew for each; the order is random within each repeat. Phases are compared with each
other, in tokens per second that clients receive.
"""


def add_parser(benchmarks: Any) -> None:
    """Adds `cold-start`."""
    defaults = Options()
    parser = options.add_benchmark(
        benchmarks,
        "cold-start",
        summary="the first steps without a profile, against a profile and against off",
        description=_DESCRIPTION,
        seconds=planned_seconds(defaults),
    )
    options.add_pairs(parser)
    options.add_repeats(parser, defaults.repeats)
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help="an exported profile of such an engine, of either pair (default: measure one first)",
    )
    command.add_file_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Runs it. Returns 1 where it fails, 2 for a bad profile or where something is not installed."""
    return command.run_command("bench cold-start", lambda: _bench(args))


def _bench(args: argparse.Namespace) -> None:
    from rich.console import Console
    from turbospec.engines.bench.coldstart import runner

    chosen = Options(args.pairs, args.repeats, args.profile)
    runner.run(chosen, args.directory, args.json, Console())
