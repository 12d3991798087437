"""What every verb with a stage has around it: extras named, signals heeded, failures as exit statuses."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_NEEDED = {
    "bench": ("matplotlib",),
    "demo": ("aiohttp", "rich"),
    "sidecar": (
        "grpc_health",
        "grpc_reflection",
        "numpy",
        "prometheus_client",
        "rich",
        "scipy",
        "structlog",
    ),
}
MAX_CONCURRENCY = 64  # the engines of a stage are started for so many
_MAX_SECONDS = 600.0


def run_command(verb: str, work: Callable[[], object], *, extras: Sequence[str] = ("demo", "sidecar")) -> int:
    """Runs `work`, which imports what it needs itself, of these `extras`.

    Returns 0, 1 where it fails, 2 where something is not installed; the reason is on standard error.
    Interrupted or terminated, it raises KeyboardInterrupt.
    """
    if (extra := _missing_extra(extras)) is not None:
        return _fail(2, verb, f"needs the {extra!r} extra: pip install 'turbospec[{extra}]'")
    import grpc
    from turbospec.engines.launching import NotInstalledError
    from turbospec.engines.load import LoadError
    from turbospec.engines.processes import ProcessFailedError
    from turbospec.engines.profiling.errors import OptionError, ProfilingError
    from turbospec.engines.stage.steering import NotControlledError

    # Ended from outside or from the keyboard, by the same path; explicit, because a background job starts
    # with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        work()
    except (NotInstalledError, OptionError) as error:
        return _fail(2, f"{verb}:", str(error))
    except (ProcessFailedError, NotControlledError, LoadError, ProfilingError, OSError) as error:
        return _fail(1, f"{verb}:", str(error))
    except grpc.RpcError as error:
        return _fail(1, f"{verb}:", f"the controller refused or is gone: {error}")
    return 0


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--json` and `--directory`: where results are written, and what is kept."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument(
        "--directory",
        type=Path,
        default=default_directory(),
        metavar="DIR",
        help="where models and logs are kept for the next time (default: %(default)s)",
    )


def concurrencies(text: str) -> list[int]:
    """The argument type of `--concurrency`: numbers of requests at once."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between, got {text!r}") from None
    if not all(1 <= value <= MAX_CONCURRENCY for value in values):
        raise argparse.ArgumentTypeError(f"each must be from 1 to {MAX_CONCURRENCY}, got {text!r}")
    if len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"each only once, got {text!r}")
    return values


def seconds(text: str) -> float:
    """The argument type of `--seconds`: how long one policy is measured."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number of seconds, got {text!r}") from None
    if not 1.0 <= value <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"must be from 1 to {_MAX_SECONDS:.0f}, got {text!r}")
    return value


def default_directory() -> Path:
    """Where things are kept for the next time."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "turbospec"


def _missing_extra(extras: Sequence[str]) -> str | None:
    for extra in extras:
        if any(importlib.util.find_spec(module) is None for module in _NEEDED[extra]):
            return extra
    return None


def _fail(status: int, verb: str, message: str) -> int:
    sys.stderr.write(f"turbospec {verb} {message}\n")
    return status
