"""`turbospec set-policy`: changes how lengths are chosen, in a running controller."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from turbospec.cli import operations

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
    operations.add_address(parser)
    operations.add_token_file(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Sets the policy. 1: refused, or no controller answers; 2: wrong usage."""
    import grpc
    from turbospec.v1 import operations_pb2, operations_pb2_grpc

    try:
        controller = operations.controller(args)
    except operations.UsageError as error:
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
    with grpc.insecure_channel(controller.address) as channel:
        stub = operations_pb2_grpc.OperationsServiceStub(channel)
        try:
            answer = stub.SetPolicy(
                request, timeout=operations.TIMEOUT_SECONDS, metadata=controller.credential
            )
        except grpc.RpcError as error:
            explained = operations.explained(error, controller.address)
            print(f"turbospec set-policy: {explained}", file=sys.stderr)
            return 1
    engines = ", ".join(answer.engines) or "no engine yet"
    print(f"{args.policy}: {engines}" + ("" if args.engine else ", and all that connect later"))
    return 0
