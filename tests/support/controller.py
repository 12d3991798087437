"""A controller that can be told how to misbehave: a real gRPC server, run as a process of its own.

    python controller.py ADDRESS BEHAVIOUR JOURNAL

It appends what it receives to JOURNAL, one JSON object per line.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
from google.protobuf.json_format import MessageToDict
from turbospec.v1 import speculation_pb2 as pb

LENGTH = 3


def answer(hello: pb.Hello, report: pb.StepReport, version: int) -> pb.Plan:
    """A valid plan: `LENGTH` for every request in the report."""
    slots = sorted(set(report.slots))
    return pb.Plan(
        version=version,
        epoch=hello.epoch,
        report_sequence=report.sequence,
        time_to_live_ms=500,
        batch_proposal_length=LENGTH,
        default_verification_length=LENGTH - 1,
        slots=slots,
        verification_lengths=[LENGTH] * len(slots),
        reason=pb.PLAN_REASON_FIXED,
    )


def _spoil(**fields: object) -> Callable[[pb.Plan], None]:
    def spoil(plan: pb.Plan) -> None:
        for name, value in fields.items():
            if isinstance(value, list):
                del getattr(plan, name)[:]
                getattr(plan, name).extend(value)
            else:
                setattr(plan, name, value)

    return spoil


def _switch(plan: pb.Plan) -> None:
    """Every five reports something else, at random: lengths, length 0, or no drafter at all."""
    choices = random.Random(plan.version // 5)
    mode = choices.choice(("lengths", "zero", "off"))
    if mode != "lengths":
        plan.skip_drafter = mode == "off"
        plan.batch_proposal_length = plan.default_verification_length = 0
    lengths = random.Random(plan.version)
    plan.verification_lengths[:] = [lengths.randint(0, plan.batch_proposal_length) for _ in plan.slots]


def wandering_length(version: int, longest: int) -> int:
    """The length of a plan of a controller that "wanders": another in each, the same for all requests."""
    return random.Random(version).randint(0, longest)


def _wander(plan: pb.Plan, longest: int) -> None:
    length = wandering_length(plan.version, longest)
    plan.batch_proposal_length = plan.default_verification_length = length
    plan.verification_lengths[:] = [length] * len(plan.slots)
    # Longer than any pause between two runs of a test.
    plan.time_to_live_ms = 10_000


def _unhurried(plan: pb.Plan, told: int) -> None:
    """From the twentieth plan on it wants a report in 200 ms, and after four under such plans all at once.

    `told` is how many there were. Plans do not count: they also answer reports that were on their way.
    """
    plan.report_interval_ms = 200 if plan.version >= 20 and told < 4 else 0
    plan.time_to_live_ms = 10_000


def _next_epoch(plan: pb.Plan) -> None:
    plan.epoch += 1


SPOILED: dict[str, Callable[[pb.Plan], None]] = {
    "too-long": _spoil(batch_proposal_length=65),
    "not-a-number": _spoil(predicted_goodput_tokens_per_second=float("nan")),
    "contradicts-itself": _spoil(default_verification_length=4),
    "uneven-arrays": _spoil(slots=[0, 1], verification_lengths=[1]),
    "unknown-slots": _spoil(slots=[1 << 20], verification_lengths=[1]),
    "from-the-future": _spoil(report_sequence=1 << 40),
    "no-time-to-live": _spoil(time_to_live_ms=0),
    "same-version": _spoil(version=0),
    "other-epoch": _next_epoch,
    "shadow": _spoil(shadow=True),
    "too-patient": _spoil(report_interval_ms=1001),
}


def control(
    behaviour: str,
    journal: Callable[[str, object], None],
    requests: Iterator[bytes],
    context: grpc.ServicerContext,
) -> Iterator[bytes]:
    hello = pb.ControlRequest.FromString(next(requests)).hello
    journal("hello", MessageToDict(hello, preserving_proto_field_name=True))
    if behaviour == "refuses":
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "hello.max_length is 4711; at most 64")
    if behaviour == "silent":
        time.sleep(3600)
    yield pb.ControlResponse(configure=pb.Configure(controller_version="test")).SerializeToString()
    if behaviour == "closes":
        return
    told = 0
    for version, data in enumerate(requests, start=1):
        report = pb.ControlRequest.FromString(data).report
        told += report.plan_version >= 20
        journal("report", MessageToDict(report, preserving_proto_field_name=True))
        if behaviour == "mute":
            continue
        if behaviour == "undecodable":
            yield b"\xff\xff\xff\xff not a message"
            continue
        if behaviour == "drains" and version == 5:
            yield pb.ControlResponse(drain=pb.Drain(reconnect_after_ms=300)).SerializeToString()
            return
        plan = answer(hello, report, version)
        if behaviour == "switches":
            _switch(plan)
        if behaviour == "wanders":
            _wander(plan, hello.max_length)
        if behaviour == "unhurried":
            _unhurried(plan, told)
        if behaviour in SPOILED:
            SPOILED[behaviour](plan)
        message = pb.ControlResponse(plan=plan).SerializeToString()
        yield message
        while behaviour == "floods":
            yield message


def main(address: str, behaviour: str, journal_path: str) -> None:
    # Unbuffered and line by line: threads of several streams write, and the test reads meanwhile.
    with open(journal_path, "ab", buffering=0) as file:

        def journal(kind: str, content: object) -> None:
            line = json.dumps({"kind": kind, "at": time.monotonic(), "content": content})
            file.write(f"{line}\n".encode())

        handler = grpc.stream_stream_rpc_method_handler(
            lambda requests, context: control(behaviour, journal, requests, context)
        )
        service = "turbospec.v1.SpeculationService"
        server = grpc.server(futures.ThreadPoolExecutor(32))
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"Control": handler}),)
        )
        server.add_insecure_port(address)
        server.start()
        journal("serving", address)
        server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:4])
