"""The command `turbospec bench e2e`."""

from __future__ import annotations

import argparse
from typing import Any

from turbospec.engines.bench import options
from turbospec.engines.bench.e2e.schedule import SGLANG, VLLM, Options, planned_seconds
from turbospec.engines.stage import command

_DESCRIPTION = """\
Measures the tokens per second that clients receive from a real engine, with a drafter that agrees often
(high) and one that does not (low), at several concurrencies, under every policy:

  none                  an engine started without speculation
  idle, off             length 0; off skips the drafter too (vLLM)
  static:1 to static:6  always that length
  table                 vLLM's own table of lengths by batch size, without TurboSpec, its entries chosen by
                        a calibration on this machine beforehand
  adaptive              SGLang's own --speculative-adaptive by its defaults, without TurboSpec
  goodput               TurboSpec's default

vLLM has a draft model; SGLang an EAGLE head, for which alone it adapts by itself.

Every policy sees the same prompts; the order is random within each repeat; one engine is under load at a
time. goodput is compared with the best of none and the static lengths at each concurrency; that best is
chosen on one half of the repeats and compared on the other half.
"""


def add_parser(benchmarks: Any) -> None:
    """Adds `e2e`."""
    defaults = Options()
    parser = options.add_benchmark(
        benchmarks,
        "e2e",
        summary="tokens per second under goodput, every fixed length, and none",
        description=_DESCRIPTION,
        seconds=planned_seconds(defaults),
    )
    parser.add_argument(
        "--engine",
        choices=(VLLM, SGLANG),
        default=defaults.engine,
        help="the engine to measure (default: %(default)s)",
    )
    options.add_pairs(parser)
    parser.add_argument(
        "--concurrency",
        type=command.concurrencies,
        default=list(defaults.concurrencies),
        metavar="N,N,…",
        help=f"requests at once, each from 1 to {command.MAX_CONCURRENCY} "
        f"(default: {','.join(map(str, defaults.concurrencies))})",
    )
    options.add_repeats(parser, defaults.repeats)
    parser.add_argument(
        "--seconds",
        type=command.seconds,
        default=defaults.seconds,
        metavar="N",
        help=f"how long each time (default: {defaults.seconds:g})",
    )
    command.add_file_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Runs it. Returns 1 where it fails, 2 where something is not installed."""
    return command.run_command("bench e2e", lambda: _bench(args))


def _bench(args: argparse.Namespace) -> None:
    from rich.console import Console
    from turbospec.engines.bench.e2e import runner

    chosen = Options(args.pairs, tuple(args.concurrency), args.repeats, args.seconds, args.engine)
    runner.run(chosen, args.directory, args.json, Console())
