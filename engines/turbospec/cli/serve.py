"""`turbospec serve`: runs the controller."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from turbospec.sidecar.server.settings import (
    NAMES,
    Loaded,
    Settings,
    SettingsError,
    as_toml,
    describe,
    flag_of,
    load,
)

_DESCRIPTION = """\
Runs the controller. Engines connect to its control address and follow its plans; without it they serve on
with their own configured length. Starting it with no settings is right.
"""

_EPILOG = """\
Every setting can also be given as TURBOSPEC_<NAME> in the environment, or in a TOML file (--config or
TURBOSPEC_CONFIG), for example:
  policy = "static:3"
  plan_time_to_live_ms = 500
A flag wins over the environment, the environment over the file. What is marked (reloads) is read again from
the file on SIGHUP: kill -HUP <pid>. An address is unix:/absolute/path or host:port; port 0 is any free one.

look inside while it runs:
  turbospec status
  grpcurl -plaintext 127.0.0.1:50052 turbospec.v1.IntrospectionService/ListEngines
"""


def add_parser(subparsers: Any) -> None:
    """Adds the verb; its flags are the table of settings."""
    parser = subparsers.add_parser(
        "serve",
        help="run the controller",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="settings file (TOML)")
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the effective settings with their sources, and stop",
    )
    parser.set_defaults(func=run)
    for name, reason, switch in describe(Settings()):
        parser.add_argument(
            flag_of(name),
            dest=name,
            default=argparse.SUPPRESS,
            help=reason.replace("%", "%%"),
            **({"action": argparse.BooleanOptionalAction} if switch else {"metavar": "VALUE"}),
        )


def run(args: argparse.Namespace) -> int:
    """Serves until it is told to stop. 1: it could not start; 2: bad settings, or the extra is missing."""
    try:
        from turbospec.sidecar.server.app import serve
    except ImportError as error:
        print(
            f"turbospec serve needs the 'sidecar' extra: pip install 'turbospec[sidecar]' ({error})",
            file=sys.stderr,
        )
        return 2
    flags = {name: value for name, value in vars(args).items() if name in NAMES}

    def read() -> Loaded:
        return load(flags, os.environ, args.config)

    try:
        loaded = read()
    except SettingsError as error:
        print(f"turbospec serve: {error}", file=sys.stderr)
        return 2
    if args.print_config:
        print(as_toml(loaded))
        return 0
    return serve(read)
