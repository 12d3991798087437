"""The `turbospec` command: one verb per module, each imported here but heavy only when it runs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from turbospec.adapters.version import __version__

INTERRUPTED = 130
"""Exit status after Ctrl-C or a signal that stands for it, as shells have it."""

VERBS = ("serve", "engine", "status", "set_policy", "profile", "profiles", "doctor", "demo", "bench")
"""Modules of turbospec.cli, in the order in which `--help` lists them."""

_HELP = """\
closed-loop control of speculative decoding for LLM serving engines

TurboSpec runs beside a serving engine. It watches every generation step and chooses how many tokens to
draft and, per request, how many to verify, so that users receive the most tokens per second. Outputs
stay the same, and without the controller the engine serves on with its own configured length.
"""

_QUICK_START = """\
quick start, each in a terminal of its own:
  turbospec serve
  turbospec engine vllm -- MODEL --speculative-config \\
      '{"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}'
  turbospec status

The first is the controller, the second is vLLM with any of its arguments, the third shows what is done
and why. `turbospec demo` shows it all on a CPU with made models; `turbospec VERB --help` explains a verb.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; the result is the exit status (2: wrong usage or a missing extra)."""
    args = build_parser().parse_args(arguments)
    try:
        return int(args.func(args))
    except KeyboardInterrupt:
        print("turbospec: interrupted", file=sys.stderr)
        return INTERRUPTED


def run() -> NoReturn:
    """`main` as a process of its own."""
    status = main()
    if status == INTERRUPTED:
        # All that was begun has been ended on the way here. What libraries do at a process's exit is not made
        # for being interrupted anywhere: a demonstration has been seen to hang there.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def build_parser() -> argparse.ArgumentParser:
    """The parser with all verbs."""
    parser = argparse.ArgumentParser(
        prog="turbospec",
        description=_HELP,
        epilog=_QUICK_START,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"turbospec {__version__}")
    subparsers = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in VERBS:
        importlib.import_module(f"turbospec.cli.{verb}").add_parser(subparsers)
    return parser


if __name__ == "__main__":
    run()
