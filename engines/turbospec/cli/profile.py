"""`turbospec profile`: measures what a live engine's steps take."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from turbospec.adapters.address import AddressError, introspection_address, parse_address
from turbospec.cli import operations
from turbospec.engines.stage import command

_DESCRIPTION = """\
Measures how long a running engine's steps take, by requests, context, length and prompts beside them, and
keeps the result as a latency profile, from which controllers of such engines start.

The engine is not stopped: the sidecar sets its length, this command sends requests to its OpenAI endpoint,
and the engine's own reports tell the times. Steps in which other requests take part are recognised and
left out, but those requests run at the lengths that are being measured. At the end, also after Ctrl-C or
a failure, the engine is under the policy that it had before. An interrupted run is gone on with by the same
command.

It ends with a fit report: how well the cost model predicts cells that it was not fitted to.
"""

_MOST_REQUESTS = 65_536  # the protocol's limit
_MOST_CONTEXTS = 16
_MOST_PREFILL = 8
_MIN_REPEATS, _MAX_REPEATS = 3, 100  # with fewer it cannot be told which visit was disturbed
_WIDTH = 160  # where no terminal says another one: a log wants whole lines
_FORMATS = (".png", ".svg")


def add_parser(subparsers: Any) -> None:
    """Adds the verb."""
    parser = subparsers.add_parser(
        "profile",
        help="measure what a live engine's steps take",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--engine-url",
        type=_url,
        required=True,
        metavar="URL",
        help="the engine's OpenAI endpoint, such as http://127.0.0.1:8000",
    )
    parser.add_argument(
        "--sidecar",
        metavar="ADDRESS",
        help="the sidecar's introspection address (default: TURBOSPEC_INTROSPECTION_ADDRESS, "
        "else 127.0.0.1:50052)",
    )
    parser.add_argument(
        "--operations",
        dest="address",
        metavar="ADDRESS",
        help="the sidecar's operations address (default: TURBOSPEC_OPERATIONS_ADDRESS, "
        "else the socket beside the control socket)",
    )
    operations.add_token_file(parser)
    parser.add_argument("--engine-id", metavar="ID", help="which engine, where several are connected")
    parser.add_argument(
        "--max-requests",
        type=_requests,
        metavar="N",
        help="measure 1, 2, 4, ... up to N requests at once (default: the engine's largest batch)",
    )
    parser.add_argument(
        "--contexts",
        type=_contexts,
        metavar="N,N",
        help="lengths of the requests' prompts (default: three, up to the engine's limit or 8192)",
    )
    parser.add_argument(
        "--prefill",
        type=_prefill,
        metavar="N,N",
        help="tokens of the prompts that are computed beside decoding; 0: measure no such steps "
        "(default: 128,512, as far as the engine's steps have room)",
    )
    parser.add_argument(
        "--repeats",
        type=_repeats,
        default=5,
        metavar="N",
        help="most visits to a cell (default: 5)",
    )
    parser.add_argument(
        "--restart", action="store_true", help="begin anew where an earlier run was interrupted"
    )
    parser.add_argument("--output", type=_file, metavar="FILE", help="also write the profile to FILE")
    parser.add_argument("--json", type=_file, metavar="FILE", help="also write the report to FILE")
    parser.add_argument(
        "--picture",
        type=_picture,
        metavar="FILE",
        help=f"also draw times and errors ({' or '.join(_FORMATS)}, by FILE's name)",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=command.default_directory() / "profiling",
        metavar="DIR",
        help="where an interrupted run's measurements are kept (default: %(default)s)",
    )
    parser.set_defaults(func=lambda args: run(args, parser))


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Profiles. 1: it failed; 2: wrong usage, or something is not installed."""
    try:
        introspection = parse_address(args.sidecar or introspection_address(os.environ)).target
    except AddressError as error:
        parser.error(f"--sidecar: {error}")
    try:
        controller = operations.controller(args)
    except operations.UsageError as error:
        parser.error(str(error))
    drawing = () if args.picture is None else ("bench",)
    return command.run_command(
        "profile",
        lambda: _profile(args, introspection, controller),
        extras=("demo", "sidecar", *drawing),
    )


def _profile(args: argparse.Namespace, introspection: str, controller: operations.Controller) -> None:
    from rich.console import Console
    from turbospec.engines.profiling.plan import Range
    from turbospec.engines.profiling.runner import Options, run
    from turbospec.engines.profiling.sidecar import Sidecar

    options = Options(
        url=args.engine_url,
        engine_id=args.engine_id,
        range=Range(args.max_requests, args.contexts, args.prefill),
        repeats=args.repeats,
        restart=args.restart,
        directory=args.directory,
        output=args.output,
        json=args.json,
        picture=args.picture,
    )
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    with Sidecar(introspection, controller.address, controller.credential) as sidecar:
        run(options, sidecar, console)


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")) or any(character.isspace() for character in text):
        raise argparse.ArgumentTypeError(f"expected http://host:port, got {text!r}")
    return text.rstrip("/").removesuffix("/v1")


def _whole(text: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdigit() or not low <= int(text[:10]) <= high:
        raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, got {text!r}")
    return int(text)


def _requests(text: str) -> int:
    return _whole(text, 1, _MOST_REQUESTS)


def _repeats(text: str) -> int:
    return _whole(text, _MIN_REPEATS, _MAX_REPEATS)


def _contexts(text: str) -> tuple[int, ...]:
    return _lengths(text, 1, _MOST_CONTEXTS)


def _prefill(text: str) -> tuple[int, ...]:
    return tuple(tokens for tokens in _lengths(text, 0, _MOST_PREFILL) if tokens)


def _lengths(text: str, low: int, most: int) -> tuple[int, ...]:
    values = sorted({_whole(part, low, 1 << 30) for part in text.split(",")})
    if len(values) > most:
        raise argparse.ArgumentTypeError(f"at most {most} lengths, got {len(values)}")
    return tuple(values)


def _file(text: str) -> Path:
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path.parent} is not a directory")
    return path


def _picture(text: str) -> Path:
    path = _file(text)
    if path.suffix not in _FORMATS:
        raise argparse.ArgumentTypeError(f"must end in {' or '.join(_FORMATS)}, got {text!r}")
    return path
