"""`turbospec engine`: start an engine under control, and make models to try it with."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_VLLM = """\
Starts vLLM with TurboSpec's scheduler and becomes it: signals and the exit status are vLLM's. Everything
after -- is passed on as it is, so `vllm serve MODEL …` becomes `turbospec engine vllm -- MODEL …`.
num_speculative_tokens is the longest proposal, and the length that applies without a controller.
TURBOSPEC_DISABLE=1 in the environment starts the stock scheduler.
"""

_SGLANG = """\
Starts SGLang with TurboSpec's plug-in switched on and becomes it: signals and the exit status are SGLang's.
Everything after -- is passed on as it is, so `python -m sglang.launch_server --model-path MODEL …` becomes
`turbospec engine sglang -- --model-path MODEL …`. speculative_num_steps is the longest proposal, and the
length that applies without a controller. TURBOSPEC_DISABLE=1 in the environment switches the plug-in off.
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
        help="start an engine under control (vllm, sglang); make models to try it with (make-models)",
        description="Starts engines under control, and makes models to try it with.",
    )
    subverbs = parser.add_subparsers(title="subverbs", metavar="SUBVERB", required=True)
    _add_launcher(subverbs, "vllm", "vLLM", "vllm serve", "MODEL --speculative-config …", _VLLM, run_vllm)
    _add_launcher(
        subverbs,
        "sglang",
        "SGLang",
        "sglang.launch_server",
        "--model-path MODEL --speculative-algorithm …",
        _SGLANG,
        run_sglang,
    )
    _add_make_models(subverbs)


def _add_launcher(
    subverbs: Any,
    engine: str,
    name: str,
    program: str,
    arguments: str,
    description: str,
    run: Callable[[argparse.Namespace], int],
) -> None:
    """Adds the subverb `engine`, which starts `program` of the engine that people call `name`."""
    parser = subverbs.add_parser(
        engine,
        help=f"start {name} under control: turbospec engine {engine} -- {arguments}",
        usage=f"turbospec engine {engine} [--print] [--control-address ADDRESS] [--engine-id ID] -- "
        f"<arguments of {program}>",
        description=description,
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
        help=f"the engine's name for people (default: $TURBOSPEC_ENGINE_ID, else {engine}-<host>-<port>)",
    )
    parser.add_argument("engine_arguments", nargs="*", metavar="ARGUMENT", help=f"what `{program}` takes")
    parser.set_defaults(func=run)


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
    from turbospec.engines import vllm

    return _launch(args, vllm.installed_command, vllm.controlled_command, ("vllm", "serve"))


def run_sglang(args: argparse.Namespace) -> int:
    """Starts SGLang, or prints how. Returns 2 for arguments that cannot be controlled."""
    from turbospec.engines import sglang

    program = ("python", "-m", "sglang.launch_server")
    return _launch(args, sglang.installed_command, sglang.controlled_command, program)


def _launch(
    args: argparse.Namespace,
    installed: Callable[[], Sequence[str]],
    controlled: Callable[..., Any],
    elsewhere: Sequence[str],
) -> int:
    """`installed` says how the engine is started here; where it is not, `elsewhere` is what is printed."""
    from turbospec.adapters.address import AddressError
    from turbospec.engines.launching import ArgumentError, NotInstalledError

    try:
        program = installed()
    except NotInstalledError as error:
        if not args.print_only:
            return _fail(error)
        program = elsewhere
    try:
        command = controlled(
            program, args.engine_arguments, control=args.control_address, engine_id=args.engine_id
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
