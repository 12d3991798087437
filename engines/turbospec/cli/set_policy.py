"""`turbospec set-policy`: changes how lengths are chosen, in a running controller."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from turbospec.adapters.address import AddressError, operations_address, parse_address

_DESCRIPTION = """\
Changes the policy of one engine, or of all, also those that connect later. It takes effect with the next
step.

  goodput         the lengths with the highest predicted goodput (the default)
  off             no speculation, and no drafter where the engine can skip it
  idle            no speculation; the drafter stays ready
  static:K        always K
  turbospec-2024  one acceptance rate, one length for all; the published baseline

Who may do this is decided by the permissions of the operations socket (its owner), or over TCP by a token.
"""

_TIMEOUT_SECONDS = 5.0
_LARGEST_RANK = 65_535  # the controller's own limit


def add_parser(subparsers: Any) -> None:
    """Adds the verb."""
    parser = subparsers.add_parser(
        "set-policy",
        help="change how lengths are chosen",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("policy", metavar="POLICY", help="goodput, off, idle, static:K or turbospec-2024")
    parser.add_argument("--engine", metavar="ID", default="", help="only this engine (default: all)")
    parser.add_argument("--rank", type=int, help="only this data-parallel rank of the engine (default: all)")
    parser.add_argument(
        "--shadow",
        action=argparse.BooleanOptionalAction,
        help="compute and explain plans without applying them (default: as it is)",
    )
    parser.add_argument(
        "--address",
        help="the controller's operations address (default: TURBOSPEC_OPERATIONS_ADDRESS, "
        "else the socket beside the control socket)",
    )
    parser.add_argument("--token-file", metavar="FILE", type=Path, help="file with the token, for TCP")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Sets the policy. 1: refused, or no controller answers; 2: wrong usage."""
    import grpc
    from turbospec.v1 import operations_pb2, operations_pb2_grpc

    try:
        address = parse_address(args.address or operations_address(os.environ)).target
        token = args.token_file.read_text(encoding="utf-8").strip() if args.token_file else None
    except UnicodeDecodeError:
        print(f"turbospec set-policy: --token-file {args.token_file}: is not text", file=sys.stderr)
        return 2
    except (AddressError, OSError) as error:
        print(f"turbospec set-policy: {error}", file=sys.stderr)
        return 2
    if args.rank is not None and not (0 <= args.rank <= _LARGEST_RANK and args.engine):
        wrong = f"--rank is from 0 to {_LARGEST_RANK} and needs --engine"
        print(f"turbospec set-policy: {wrong}", file=sys.stderr)
        return 2
    request = operations_pb2.SetPolicyRequest(
        engine=operations_pb2.EngineSelector(engine_id=args.engine, rank=args.rank),
        policy=args.policy,
        shadow=args.shadow,
    )
    credential = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address) as channel:
        stub = operations_pb2_grpc.OperationsServiceStub(channel)
        try:
            answer = stub.SetPolicy(request, timeout=_TIMEOUT_SECONDS, metadata=credential)
        except grpc.RpcError as error:
            print(f"turbospec set-policy: {_explained(error, address)}", file=sys.stderr)
            return 1
    engines = ", ".join(answer.engines) or "no engine yet"
    print(f"{args.policy}: {engines}" + ("" if args.engine else ", and all that connect later"))
    return 0


def _explained(error: Any, address: str) -> str:
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
