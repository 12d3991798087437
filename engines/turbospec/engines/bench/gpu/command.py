"""The command `turbospec bench gpu`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from turbospec.engines.bench.gpu.plan import MOST_PART_SECONDS, PAGE, PARTS
from turbospec.engines.stage import command

_DESCRIPTION = f"""\
Measures on an accelerator, with a target of Llama-3.1-8B's dimensions that is made there, part by part. A
part takes at most {MOST_PART_SECONDS / 60:.0f} minutes; one that is done is not run again, so that the same
command goes on where it was ended. Without --part all are run, each after those that it needs:

  models              makes the pairs, and finds how to make them agree often (high) or seldom (low)
  step-time-MODE      what steps take, scheduled synchronously (sync) or ahead (async)
  cost                what the adapter takes from each step, how old plans are, how much longer steps become
  tune-METHOD-AGREE   vLLM's own table of lengths by batch size, by search
  cells-METHOD-AGREE  goodput and time per token of none, every static length, that table, vLLM's adaptive
                      verification where it has one, and goodput
  varying-METHOD-AGREE  load that goes up and down
  summary             the targets, from the parts that are there
  page                the same as a page with tables and pictures

METHOD: layers (the draft is the target's first layers), 1b (a draft of Llama-3.2-1B's dimensions), ngram.
"""


def add_parser(benchmarks: Any) -> None:
    """Adds `gpu`."""
    parser = benchmarks.add_parser(
        "gpu",
        help="the same questions on an accelerator, in parts of a few minutes each",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--part", choices=PARTS, metavar="NAME", help=f"only this one, of {', '.join(PARTS)}")
    parser.add_argument(
        "--small",
        action="store_true",
        help="small models on a CPU, a minute or two for each part: to try the logic, not to measure",
    )
    command.add_file_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Runs it. Returns 1 where it fails, 2 where something is not installed or must be run first."""
    drawing = ("bench",) if args.part == PAGE else ()
    return command.run_command("bench gpu", lambda: _bench(args), extras=("demo", "sidecar", *drawing))


def _bench(args: argparse.Namespace) -> None:
    from rich.console import Console
    from turbospec.engines.bench.gpu import runner

    directory: Path = args.directory
    run = runner.run_all if args.part is None else partial(runner.run, args.part)
    run(directory, args.json, small=args.small, console=Console())
