"""`turbospec demo`: a real engine on this machine, controlled and not, side by side."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Any

_DESCRIPTION = """\
Makes a small target and draft model, starts the controller and two vLLM engines (one controlled, one
without speculation), sends both the same prompts at several concurrencies, and prints a table. One
engine is under load at a time. Takes about four minutes on two cores.
"""

_NEEDED = {
    "demo": ("aiohttp", "rich"),
    "sidecar": ("grpc_health", "grpc_reflection", "numpy", "scipy", "structlog"),
}
_MAX_CONCURRENCY = 64  # the demonstration's engines are started for so many
_MAX_SECONDS = 600.0


def add_parser(subparsers: Any) -> None:
    """Adds `demo`."""
    parser = subparsers.add_parser(
        "demo",
        help="see it work: a real vLLM on this machine, controlled and not, side by side",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--engine", choices=["vllm"], default="vllm", help="which engine (default: vllm)")
    parser.add_argument(
        "--agreement",
        choices=["high", "low"],
        default="high",
        help="how well the draft model guesses: about 75%% or 40%% of first drafts accepted (default: high)",
    )
    parser.add_argument(
        "--concurrency",
        type=_concurrencies,
        default=[1, 4, 16, 32],
        metavar="N,N,…",
        help=f"requests at once, each from 1 to {_MAX_CONCURRENCY} (default: 1,4,16,32)",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=6.0,
        metavar="N",
        help="how long each policy is measured at each concurrency (default: 6)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument(
        "--directory",
        type=Path,
        default=_default_directory(),
        metavar="DIR",
        help="where models and logs are kept for the next time (default: %(default)s)",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Runs it. Returns 1 where it fails, 2 where something is not installed."""
    for extra, modules in _NEEDED.items():
        if any(importlib.util.find_spec(module) is None for module in modules):
            print(
                f"turbospec demo needs the {extra!r} extra: pip install 'turbospec[{extra}]'", file=sys.stderr
            )
            return 2
    import grpc
    from rich.console import Console
    from turbospec.engines.demo import runner
    from turbospec.engines.demo.steering import NotControlledError
    from turbospec.engines.load import LoadError
    from turbospec.engines.processes import ProcessFailedError
    from turbospec.engines.vllm import NotInstalledError

    # Ended from outside or from the keyboard, by the same path; explicit, because a background job starts
    # with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    options = runner.Options(args.directory, args.agreement, args.concurrency, args.seconds, args.json)
    try:
        runner.run(options, Console())
    except NotInstalledError as error:
        print(f"turbospec demo: {error}", file=sys.stderr)
        return 2
    except (ProcessFailedError, NotControlledError, LoadError, OSError) as error:
        print(f"turbospec demo: {error}", file=sys.stderr)
        return 1
    except grpc.RpcError as error:
        print(f"turbospec demo: the controller refused or is gone: {error}", file=sys.stderr)
        return 1
    return 0


def _default_directory() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "turbospec"


def _concurrencies(text: str) -> list[int]:
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between, got {text!r}") from None
    if not all(1 <= value <= _MAX_CONCURRENCY for value in values):
        raise argparse.ArgumentTypeError(f"each must be from 1 to {_MAX_CONCURRENCY}, got {text!r}")
    if len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"each only once, got {text!r}")
    return values


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number of seconds, got {text!r}") from None
    if not 1.0 <= value <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"must be from 1 to {_MAX_SECONDS:.0f}, got {text!r}")
    return value
