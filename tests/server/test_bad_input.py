"""Wrong messages: each a precise status, none reaches the estimators, no other engine notices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support.engine_stream import EngineStream, hello, opened, report
from support.serving import Server
from turbospec.v1 import introspection_pb2 as ipb
from turbospec.v1 import speculation_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED

BAD_HELLOS = {
    "no version": (
        hello(protocol_version=0),
        PRECONDITION,
        "hello.protocol_version: this controller speaks 1",
    ),
    "version 2": (
        hello(protocol_version=2),
        PRECONDITION,
        "hello.protocol_version: this controller speaks 1, not 2",
    ),
    "no id": (hello(engine_id=""), INVALID, "hello.engine_id: 1 to 128 characters"),
    "long id": (hello(engine_id="x" * 129), INVALID, "hello.engine_id: 1 to 128 characters, not 129"),
    "id with space": (hello(engine_id="a b"), INVALID, "hello.engine_id: must be printable"),
    "id with newline": (hello(engine_id="a\nb"), INVALID, "hello.engine_id: must be printable"),
    "rank": (hello(rank=1 << 20), INVALID, "hello.rank: must be from 0 to 65535"),
    "no length": (hello(max_length=0), INVALID, "hello.max_length: must be from 1 to 64, not 0"),
    "long length": (hello(max_length=65), INVALID, "hello.max_length: must be from 1 to 64, not 65"),
    "static length": (hello(static_length=6), INVALID, "hello.static_length: must be from 0 to 5, not 6"),
    "no batch": (hello(max_batch=0), INVALID, "hello.max_batch: must be from 1"),
    "long model": (hello(model="m" * 1025), INVALID, "hello.model: has at most 1024 bytes"),
    "graph sizes": (hello(graph_sizes=[8, 4]), INVALID, "hello.graph_sizes: must be ascending"),
    "candidates": (
        hello(capabilities=pb.Capabilities(candidate_lengths=[0, 6])),
        INVALID,
        "hello.capabilities.candidate_lengths: at most max_length, 5, not 6",
    ),
    "slot twice": (
        hello(live_requests=[opened(3), opened(3)]),
        INVALID,
        "hello.live_requests[1].slot: 3 is named twice",
    ),
    "long label": (
        hello(live_requests=[opened(0, label="x" * 65)]),
        INVALID,
        "hello.live_requests[0].label: has at most 64 bytes",
    ),
}

BAD_REPORTS = {
    "old sequence": (report(3), INVALID, "report.sequence: 3 "),
    "array lengths": (report(4, verified=[1]), INVALID, "report.verified: "),
    "accepted above verified": (report(4, accepted=[2, 3]), INVALID, "report.accepted: 3 of slot 1"),
    "verified above proposed": (report(4, verified=[4, 2]), INVALID, "report.verified: 4 of slot 0"),
    "proposed above maximum": (report(4, proposed=[3, 6]), INVALID, "report.proposed: 6 of slot 1"),
    "unknown slot": (report(4, slots=[0, 9]), INVALID, "report.slots: slot 9"),
    "wild slot": (report(4, slots=[0, (1 << 32) - 1]), INVALID, "report.slots: at most 65535"),
    "slot twice": (report(4, slots=[0, 0]), INVALID, "report.slots: 0 occurs 2 times in 1 step"),
    "slot too often": (
        report(4, steps=2, slots=[0, 0, 0], requests=4),
        INVALID,
        "report.slots: 0 occurs 3 times in 2 step",
    ),
    "opened twice": (report(4, opened=[opened(0)]), INVALID, "report.opened.slot: 0 "),
    "opened without id": (
        report(4, opened=[opened(5, request_id="")]),
        INVALID,
        "report.opened[0].request_id: ",
    ),
    "closed unknown": (report(4, closed_slots=[7]), INVALID, "report.closed_slots: slot 7"),
    "too many requests": (report(4, requests=257), INVALID, "report.requests: 257 exceeds"),
    "unready unknown": (report(4, unready_slots=[7]), INVALID, "report.unready_slots: slot 7 is not open"),
    "cannot skip": (report(4, drafter_skipped=True), INVALID, "report.drafter_skipped: is set by an engine"),
    "proposal length": (report(4, proposal_length=6), INVALID, "report.proposal_length: 6"),
    "emitted": (report(4, emitted_tokens=13), INVALID, "report.emitted_tokens: must be from 0 to 12, not 13"),
    "context": (
        report(4, context_tokens=[1, 4097]),
        INVALID,
        "report.context_tokens: at most the hello's max_context, 4096",
    ),
    "duration": (report(4, duration_ns=1 << 62), INVALID, "report.duration_ns: at most 3600 s per step"),
    "disturbance": (
        report(4, disturbances=[9]),
        INVALID,
        "report.disturbances[0]: must be one of",
    ),
    "too many entries": (report(4, slots=range(300)), INVALID, "report.slots: has at most 256 entries"),
    "too many contexts": (
        report(4, context_tokens=[0] * 100_000),
        INVALID,
        "report.context_tokens: has at most 2 entries, not 100000",
    ),
    "too many disturbances": (
        report(4, disturbances=[pb.DISTURBANCE_PREFILL] * 9),
        INVALID,
        "report.disturbances: has at most 4 entries, not 9",
    ),
    "too many fallbacks": (
        report(4, counters=pb.AdapterCounters(fallbacks=[pb.FallbackCount(reason=1, count=1)] * 100)),
        INVALID,
        "report.counters.fallbacks: has at most 7 entries",
    ),
    "unset disturbance": (report(4, disturbances=[0]), INVALID, "report.disturbances[0]: must be one of"),
    "cache ratio": (report(4, kv_cache_usage_ratio=1.5), INVALID, "report.kv_cache_usage"),
    "cache ratio nan": (report(4, kv_cache_usage_ratio=float("nan")), INVALID, "report.kv_cache_usage"),
    "fallback": (
        report(4, counters=pb.AdapterCounters(fallbacks=[pb.FallbackCount(reason=0, count=1)])),
        INVALID,
        "report.counters.fallbacks[0].reason: must be one of FALLBACK_REASON_",
    ),
    "coalesced": (report(4, steps=1 << 30), INVALID, "report.steps: must be from 1 to"),
    "second hello": (hello(), PRECONDITION, "hello: must come once"),
}


@pytest.fixture(scope="module")
def bystander(server: Server) -> Iterator[EngineStream]:
    """Another engine, connected all the while."""
    with EngineStream.connected(server.control, engine_id="bystander") as engine:
        engine.plan(report(1))
        yield engine


@pytest.mark.parametrize(("message", "code", "details"), BAD_HELLOS.values(), ids=BAD_HELLOS.keys())
def test_bad_hello(server: Server, message: pb.Hello, code: grpc.StatusCode, details: str) -> None:
    """It is refused with the field and the limit, and no engine comes to be."""
    before = len(server.look.ListEngines(ipb.ListEnginesRequest()).engines)
    with EngineStream(server.control) as engine:
        engine.send(message)
        found = engine.end()
    assert found[0] is code
    assert found[1].startswith(details)
    assert len(server.look.ListEngines(ipb.ListEnginesRequest()).engines) == before


@pytest.mark.parametrize(("message", "code", "details"), BAD_REPORTS.values(), ids=BAD_REPORTS.keys())
def test_bad_report(
    server: Server,
    bystander: EngineStream,
    message: pb.StepReport | pb.Hello,
    code: grpc.StatusCode,
    details: str,
) -> None:
    """The stream ends with the field and the limit; what was known is as before; others go on."""
    with EngineStream.connected(server.control) as engine:
        for sequence in range(1, 4):
            engine.plan(report(sequence))
        before = server.learnt()
        engine.send(message)
        found = engine.end()
    assert found[0] is code
    assert found[1].startswith(details)
    assert server.learnt() == before
    sequence = server.engine("bystander").summary.steps + 1
    assert bystander.plan(report(sequence)).report_sequence == sequence


def test_report_before_hello(server: Server) -> None:
    """Who does not say who it is cannot report."""
    with EngineStream(server.control) as engine:
        engine.send(report(1))
        assert engine.end() == (PRECONDITION, "hello: must be the first message, not report")


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b""], ids=["not protobuf", "empty"])
def test_not_a_message(server: Server, data: bytes) -> None:
    """Bytes that are no message end the stream with a status that says so, and the state stays."""
    with EngineStream.connected(server.control, engine_id="bytes") as engine:
        engine.plan(report(1))
        before = server.learnt("bytes")
        engine.send_bytes(data)
        code, details = engine.end()
    assert code is INVALID
    assert details.startswith("message: ")
    assert server.learnt("bytes") == before


def test_limits_are_named(tmp_path: Path) -> None:
    """Past a limit: RESOURCE_EXHAUSTED with the setting's name, and who is inside goes on."""
    flags = ("--max-engines", "2", "--max-requests-per-engine", "3", "--max-message-bytes", "4096")
    server = Server(tmp_path, *flags)
    try:
        with (
            EngineStream.connected(server.control, engine_id="a") as a,
            EngineStream.connected(server.control, engine_id="b") as b,
        ):
            with EngineStream(server.control) as c:
                c.send(hello(engine_id="c"))
                assert c.end() == (EXHAUSTED, "max_engines: 2 engines is the most, and all are connected")
            a.plan(report(1))
            a.send(report(2, opened=[opened(2), opened(3)]))
            assert a.end() == (EXHAUSTED, "max_requests_per_engine: 2 requests enter, with room for 1")
            b.plan(report(1))
            b.send(report(2, closed_slots=[0] * 5000))
            assert b.end()[0] is EXHAUSTED
        with EngineStream.connected(server.control, engine_id="c") as c:  # takes the place of one that left
            assert c.plan(report(1)).report_sequence == 1
    finally:
        server.stop()


def test_state_of_an_engine_that_left_expires(tmp_path: Path) -> None:
    """It is kept for a reconnect, but not for ever."""
    server = Server(tmp_path, "--engine-expiry-seconds", "0.5")
    try:
        with EngineStream.connected(server.control):
            pass
        server.wait_for("engine.forgotten")
        assert not server.look.ListEngines(ipb.ListEnginesRequest()).engines
    finally:
        server.stop()
