"""`turbospec status`: what is connected, controlled or not and why, and how well it goes."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

from turbospec.adapters.address import AddressError, introspection_address, parse_address

if TYPE_CHECKING:
    import grpc
    from turbospec.v1 import introspection_pb2 as pb

_DESCRIPTION = """\
Shows what the controller knows: which engines are connected, whether they run under its plans and if not
why, the lengths in use, acceptance by draft position, and goodput: realised, predicted, and what the cost
model expects without speculation (idle).
"""

# A machine may hold a controller up for seconds; one that is gone refuses at once.
_TIMEOUT_SECONDS = 20.0
_WATCH_SECONDS = 1.0
_LINE_WIDTH = 100


def add_parser(subparsers: Any) -> None:
    """Adds the verb."""
    parser = subparsers.add_parser(
        "status",
        help="show engines, lengths, acceptance and goodput",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="the controller's introspection address (default: TURBOSPEC_INTROSPECTION_ADDRESS, "
        "else 127.0.0.1:50052)",
    )
    parser.add_argument("--json", action="store_true", help="print what the services answer, as JSON")
    parser.add_argument("--watch", action="store_true", help="show it again every second, until interrupted")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Prints the status. 1: no controller answers; 2: the address is not one."""
    import grpc

    try:
        address = parse_address(args.address or introspection_address(os.environ)).target
    except AddressError as error:
        print(f"turbospec status: {error}", file=sys.stderr)
        return 2
    with grpc.insecure_channel(address) as channel:
        while True:
            try:
                text = _as_json(channel) if args.json else _as_text(channel, address)
            except grpc.RpcError as error:
                print(_no_answer(address, error), file=sys.stderr)
                return 1
            if not args.watch:
                print(text)
                return 0
            clear = "\033[H\033[2J" if sys.stdout.isatty() and not args.json else ""
            print(f"{clear}{text}", flush=True)
            time.sleep(_WATCH_SECONDS)


def _ask(channel: grpc.Channel) -> tuple[pb.ListEnginesResponse, list[pb.GetEngineResponse]]:
    import grpc
    from turbospec.v1 import introspection_pb2, introspection_pb2_grpc

    stub = introspection_pb2_grpc.IntrospectionServiceStub(channel)
    listed = stub.ListEngines(introspection_pb2.ListEnginesRequest(), timeout=_TIMEOUT_SECONDS)
    engines = []
    for engine in listed.engines:
        request = introspection_pb2.GetEngineRequest(engine_id=engine.engine_id, rank=engine.rank)
        try:
            engines.append(stub.GetEngine(request, timeout=_TIMEOUT_SECONDS))
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:  # forgotten since it was listed
                raise
    return listed, engines


def _as_json(channel: grpc.Channel) -> str:
    import json

    from google.protobuf.json_format import MessageToDict

    listed, engines = _ask(channel)
    return json.dumps(
        {
            "controllerVersion": listed.controller_version,
            "uptimeSeconds": listed.uptime_seconds,
            "engines": [MessageToDict(engine) for engine in engines],
        },
        indent=2,
    )


def _as_text(channel: grpc.Channel, address: str) -> str:
    listed, engines = _ask(channel)
    lines = [
        f"controller {listed.controller_version} at {address}, up {_duration(listed.uptime_seconds)}, "
        f"{len(engines)} engine(s)"
    ]
    if not engines:
        lines += [
            "",
            "No engine has connected. Start one with: turbospec engine vllm -- MODEL ... ,",
            "and if it is running already, ask why it is not here: turbospec doctor",
        ]
    for engine in engines:
        lines += ["", *_engine(engine)]
    return "\n".join(lines)


def _engine(engine: pb.GetEngineResponse) -> list[str]:
    s, identity, acceptance = engine.summary, engine.identity, engine.acceptance
    state = "controlled" if s.controlled else f"not controlled: {s.uncontrolled_reason}"
    draft = f" with {identity.draft_model}" if identity.draft_model else ""
    verified = f"verify {s.mean_verification_length:.2f} on average"
    if not engine.last_decision.requests:
        verified = "no request now"
    rows = [
        ("state", state),
        ("model", f"{identity.model}{draft} ({identity.method})"),
        ("engine", f"{identity.engine_name} {identity.engine_version} on {identity.hardware}"),
        ("policy", s.policy + (" (shadow)" if s.shadow else "")),
        (
            "lengths",
            f"propose {s.proposal_length}, {verified}; "
            f"largest {identity.max_length}, without plans {identity.static_length}",
        ),
        *([("drafter", _drafter(s))] if s.drafter_skipped or s.unready_requests else []),
        ("because", engine.last_decision.explanation or "-"),
        ("requests", f"{s.requests} in the newest step; {s.steps} steps reported on this connection"),
        ("acceptance", _ratio(s, "acceptance_ratio", "of verified drafts")),
        ("by position", " ".join(f"{x:.2f}" for x in acceptance.survivals) or "-"),
        ("goodput", _goodput(s)),
        *([("would gain", _gain(s))] if s.HasField("estimated_gain_ratio") else []),
        ("model error", _ratio(s, "model_error_ratio", "of the step time (median)")),
        *_costs(engine.latency),
        ("plan age", f"{s.plan_age_steps} step(s)" if s.HasField("plan_age_steps") else "-"),
        ("fallbacks", _fallbacks(s)),
    ]
    return [f"{s.engine_id} rank {s.rank}", *(line for row in rows for line in _row(*row))]


def _row(name: str, value: str) -> list[str]:
    # Model names and addresses are longer than lines at times, and are copied: they stay whole.
    return textwrap.wrap(
        value,
        _LINE_WIDTH,
        initial_indent=f"  {name:<12} ",
        subsequent_indent=" " * 15,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _goodput(s: pb.EngineSummary) -> str:
    if not s.HasField("realised_goodput_tokens_per_second"):
        return "- (no step timed yet)"
    text = f"{s.realised_goodput_tokens_per_second:.0f} tokens/s realised"
    if s.HasField("predicted_goodput_tokens_per_second"):
        text += f", {s.predicted_goodput_tokens_per_second:.0f} predicted"
    if s.HasField("idle_goodput_tokens_per_second"):
        idle = s.idle_goodput_tokens_per_second
        text += f", {idle:.0f} at length 0"
        if idle > 0:
            text += f" ({s.realised_goodput_tokens_per_second / idle:.2f}x)"
    return text


def _gain(s: pb.EngineSummary) -> str:
    return (
        f"{s.estimated_gain_ratio - 1.0:+.0%} if plans were applied, as far as costs of lengths not yet used "
        f"can be assumed; to apply them: turbospec set-policy {s.policy} --no-shadow"
    )


def _drafter(s: pb.EngineSummary) -> str:
    missed = f"{s.unready_requests} request(s) missed it and will not speculate"
    return f"skipped; {missed}" if s.drafter_skipped else f"runs; {missed}"


def _ratio(s: pb.EngineSummary, field: str, of: str) -> str:
    known: bool = s.HasField(field)
    return f"{getattr(s, field):.1%} {of}" if known else "-"


def _fallbacks(s: pb.EngineSummary) -> str:
    from turbospec.v1 import speculation_pb2

    names = speculation_pb2.FallbackReason.Name
    told = [f"{names(f.reason).removeprefix('FALLBACK_REASON_').lower()} {f.count}" for f in s.fallbacks]
    return ", ".join(told) or "none"


def _costs(latency: pb.LatencyState) -> list[tuple[str, str]]:
    """What predicted step times rest on: where they came from, and by batch sizes, which lengths on what."""
    from turbospec.v1 import introspection_pb2 as pb

    started = latency.started_from
    prior = f", a prior: differs in {', '.join(started.differs_in)}" if started.differs_in else ""
    rows = [("costs", f"from profile {started.profile_id}{prior}" if started.profile_id else "no profile")]
    cells = list(latency.cells)
    for batch in dict.fromkeys((cell.least_requests, cell.most_requests) for cell in cells):
        own = [cell for cell in cells if (cell.least_requests, cell.most_requests) == batch]
        told = []
        for basis in dict.fromkeys(sorted(cell.basis for cell in own)):
            such = [cell for cell in own if cell.basis == basis]
            lengths = ["off" if cell.drafter_skipped else str(cell.proposal_length) for cell in such]
            name = pb.CostBasis.Name(basis).removeprefix("COST_BASIS_").lower()
            told.append(f"{name} {' '.join(lengths)}")
        least, most = batch
        at = str(least) if least == most else f"{least}-{most}"
        rows.append(("", f"{at} request{'s' if most > 1 else ''}: {', '.join(told)}"))
    return rows


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _no_answer(address: str, error: grpc.RpcError) -> str:
    return (
        f"turbospec status: no controller answers at {address} ({error.code().name})\n"
        "  Is it running? Start it with: turbospec serve\n"
        "  Does it listen elsewhere? Its log says so (server.listening); then use --address HOST:PORT"
    )
