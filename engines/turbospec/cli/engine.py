"""`turbospec engine`: start an engine under control, and make models to try it with."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

_VLLM = """\
Starts vLLM with TurboSpec's scheduler and becomes it: signals and the exit status are vLLM's. Everything
after -- is passed on as it is, so `vllm serve MODEL …` becomes `turbospec engine vllm -- MODEL …`.
num_speculative_tokens is the longest proposal, and the length that applies without a controller.
TURBOSPEC_DISABLE=1 in the environment starts the stock scheduler.
"""

_MAKE_MODELS = """\
Makes a target and a draft model with random weights: all compute is real, the text is meaningless. A draft
pass costs about a tenth of a target pass, and the agreement sets how many drafts are accepted. The same
arguments give the same bytes. Needs torch, as an engine's environment has it.
"""


def add_parser(subparsers: Any) -> None:
    """Adds `engine` with its subverbs."""
    parser = subparsers.add_parser(
        "engine",
        help="start an engine under control (vllm); make models to try it with (make-models)",
        description="Starts engines under control, and makes models to try it with.",
    )
    subverbs = parser.add_subparsers(title="subverbs", metavar="SUBVERB", required=True)
    _add_vllm(subverbs)
    _add_make_models(subverbs)


def _add_vllm(subverbs: Any) -> None:
    parser = subverbs.add_parser(
        "vllm",
        help="start vLLM under control: turbospec engine vllm -- MODEL --speculative-config …",
        usage="turbospec engine vllm [--print] [--control-address ADDRESS] [--engine-id ID] -- "
        "<arguments of vllm serve>",
        description=_VLLM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--print",
        action="store_true",
        dest="print_only",
        help="print the exact command with its environment, for a manifest of your own, and start nothing",
    )
    parser.add_argument(
        "--control-address",
        metavar="ADDRESS",
        help="where the controller listens: unix:/path or host:port "
        "(default: $TURBOSPEC_CONTROL_ADDRESS, else the socket on which `turbospec serve` listens)",
    )
    parser.add_argument(
        "--engine-id",
        metavar="ID",
        help="the engine's name for people (default: $TURBOSPEC_ENGINE_ID, else vllm-<host>-<port>)",
    )
    parser.add_argument("vllm_arguments", nargs="*", metavar="ARGUMENT", help="what `vllm serve` takes")
    parser.set_defaults(func=run_vllm)


def _add_make_models(subverbs: Any) -> None:
    parser = subverbs.add_parser(
        "make-models",
        help="make a target and a draft model with random weights",
        description=_MAKE_MODELS,
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="where the two models are put")
    parser.add_argument(
        "--agreement",
        default="high",
        metavar="high|low",
        help="how many first drafts are accepted: about 75%% or about 40%% (default: high)",
    )
    parser.add_argument(
        "--size",
        default="demo",
        metavar="demo|tiny",
        help="demo: realistic costs, 260 MB; tiny: for tests, ready at once (default: demo)",
    )
    parser.set_defaults(func=run_make_models)


def run_vllm(args: argparse.Namespace) -> int:
    """Starts vLLM, or prints how. Returns 2 for arguments that cannot be controlled."""
    from turbospec.adapters.address import AddressError
    from turbospec.engines import vllm
    from turbospec.engines.vllm_arguments import ArgumentError

    try:
        program = vllm.installed_command()
    except vllm.NotInstalledError as error:
        if not args.print_only:
            return _fail(error)
        program = ("vllm", "serve")
    try:
        command = vllm.controlled_command(
            program, args.vllm_arguments, control=args.control_address, engine_id=args.engine_id
        )
    except (ArgumentError, AddressError) as error:
        return _fail(error)
    if not args.print_only:
        command.replace_process()
    print(command.as_shell())
    return 0


def run_make_models(args: argparse.Namespace) -> int:
    """Makes the pair and prints how to serve it. Returns 2 for arguments that cannot be used."""
    from turbospec.engines.models import MadeModelError, make_models

    try:
        made = make_models(args.directory, args.agreement, size=args.size)
    except MadeModelError as error:
        return _fail(error)
    print(f"target {made.target}\ndraft  {made.draft}")
    return 0


def _fail(error: Exception) -> int:
    print(f"turbospec engine: {error}", file=sys.stderr)
    return 2
