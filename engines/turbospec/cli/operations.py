"""What verbs that call a running controller's operations service share."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turbospec.adapters.address import AddressError, operations_address, parse_address

# A machine may hold a controller up for seconds; one that is gone refuses at once.
TIMEOUT_SECONDS = 20.0


class UsageError(Exception):
    """The command was given something wrong; the message says what."""


@dataclass(frozen=True, slots=True)
class Controller:
    """Where the operations service is, and the metadata that its calls need."""

    address: str
    credential: tuple[tuple[str, str], ...]


def add_address(parser: Any) -> None:
    """Adds `--address` to a parser or a group."""
    parser.add_argument(
        "--address",
        help="the controller's operations address (default: TURBOSPEC_OPERATIONS_ADDRESS, "
        "else the socket beside the control socket)",
    )


def add_token_file(parser: Any) -> None:
    """Adds `--token-file` to a parser."""
    parser.add_argument("--token-file", metavar="FILE", type=Path, help="file with the token, for TCP")


def controller(args: argparse.Namespace) -> Controller:
    """The controller that the flags or the environment name. Raises `UsageError`."""
    try:
        address = parse_address(args.address or operations_address(os.environ)).target
        token = args.token_file.read_text(encoding="utf-8").strip() if args.token_file else None
    except UnicodeDecodeError:
        raise UsageError(f"--token-file {args.token_file}: is not text") from None
    except (AddressError, OSError) as error:
        raise UsageError(str(error)) from error
    return Controller(address, (("authorization", f"Bearer {token}"),) if token else ())


def explained(error: Any, address: str) -> str:
    """What a call's failure means and what to do."""
    import grpc

    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return f"{error.details()}; give it with --token-file"
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return f"{address} is not a controller's operations address; its log has it (server.listening)"
    if error.code() is not grpc.StatusCode.UNAVAILABLE:
        return str(error.details())
    return (
        f"no controller answers at {address}\n"
        "  Is it running? Start it with: turbospec serve\n"
        "  Is the socket yours? Only its owner (and root) may open it: ls -l\n"
        "  Does it listen elsewhere? Its log says so (server.listening); then use --address"
    )
