"""The command `turbospec bench hotpath`."""

from __future__ import annotations

import argparse
from typing import Any

from turbospec.engines.bench.hotpath.plan import SGLANG, VLLM
from turbospec.engines.stage import command

_DESCRIPTION = """\
Measures what control costs on a real engine, with made models, at 1, 16, 64 and, of vLLM, 256 requests:

  adapter   CPU time that the adapter takes from the scheduler's thread, per step
  dilation  step time with the adapter over without, at 1 and 16 requests: the engine on one core with one
            OpenMP thread, the sidecar on the other; and once more with both wherever the kernel likes
  plan lag  steps between the report that a step's plan was made from and the step; 1 is the least
  sidecar   time from the bytes of a report to the bytes of its plan
  switch    CPU time of the scheduler's thread where SGLang changes to another length

It needs two cores with nothing else on them.
"""


def add_parser(benchmarks: Any) -> None:
    """Adds `hotpath`."""
    parser = benchmarks.add_parser(
        "hotpath",
        help="cost of control in the scheduler's thread, per step, and in the sidecar (12 minutes)",
        description=_DESCRIPTION,
        epilog="It takes up to 12 minutes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--engine",
        choices=(VLLM, SGLANG),
        default=VLLM,
        help="the engine to measure (default: %(default)s)",
    )
    command.add_file_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Runs it. Returns 1 where it fails, 2 where something is not installed."""
    return command.run_command("bench hotpath", lambda: _bench(args))


def _bench(args: argparse.Namespace) -> None:
    from rich.console import Console
    from turbospec.engines.bench.hotpath import runner

    runner.run(args.engine, args.directory, args.json, Console())
