"""`turbospec demo`: a real engine on this machine, controlled and not, side by side."""

from __future__ import annotations

import argparse
from typing import Any

from turbospec.engines.stage import command

_DESCRIPTION = """\
Makes a small target and draft model, starts the controller and two engines (one controlled, one without
speculation), sends both the same prompts at several concurrencies, and prints a table. One engine is under
load at a time. Takes about four minutes on two cores. vLLM needs no GPU. SGLang needs one, or a checkout:
make demo ENGINE=sglang
"""


def add_parser(subparsers: Any) -> None:
    """Adds `demo`."""
    parser = subparsers.add_parser(
        "demo",
        help="see it work: a real engine on this machine, controlled and not, side by side",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--engine", choices=["vllm", "sglang"], default="vllm", help="which engine (default: vllm)"
    )
    parser.add_argument(
        "--agreement",
        choices=["high", "low"],
        default="high",
        help="how well the draft model guesses: with vLLM about 75%% or 40%% of first drafts accepted "
        "(default: high)",
    )
    parser.add_argument(
        "--concurrency",
        type=command.concurrencies,
        default=[1, 4, 16, 32],
        metavar="N,N,…",
        help=f"requests at once, each from 1 to {command.MAX_CONCURRENCY} (default: 1,4,16,32)",
    )
    parser.add_argument(
        "--seconds",
        type=command.seconds,
        default=6.0,
        metavar="N",
        help="how long each policy is measured at each concurrency (default: 6)",
    )
    command.add_file_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Runs it. Returns 1 where it fails, 2 where something is not installed."""
    return command.run_command("demo", lambda: _demo(args))


def _demo(args: argparse.Namespace) -> None:
    from rich.console import Console
    from turbospec.engines.demo import runner

    options = runner.Options(
        args.engine, args.directory, args.agreement, args.concurrency, args.seconds, args.json
    )
    runner.run(options, Console())
