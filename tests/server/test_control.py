"""The hot service, over real sockets."""

from __future__ import annotations

import itertools
import math
import threading

import grpc
import pytest
from support.engine_stream import EngineStream, hello, opened, report
from support.patience import PATIENCE_SECONDS, Watch, assert_within, wait_until
from support.serving import Server
from turbospec.v1 import introspection_pb2 as ipb
from turbospec.v1 import speculation_pb2 as pb


def test_a_stream_gets_configure_then_a_plan_then_a_plan_per_report(server: Server) -> None:
    """The answers come in the protocol's order, and every plan is valid for the engine."""
    with EngineStream(server.control) as engine:
        engine.send(hello(engine_id="order", epoch=4711))
        configure = engine.next().configure
        assert configure.controller_version
        assert not configure.shadow
        first = engine.next().plan
        assert (first.version, first.report_sequence) == (1, 0)
        for sequence in range(1, 51):
            plan = engine.plan(report(sequence))
            assert plan.epoch == 4711
            assert plan.version == sequence + 1
            assert plan.time_to_live_ms == 1000
            assert plan.reason != pb.PLAN_REASON_UNSPECIFIED
            assert 0 <= plan.batch_proposal_length <= 5
            assert plan.default_verification_length <= plan.batch_proposal_length
            assert list(plan.slots) == ([0, 1] if plan.batch_proposal_length else [])
            assert max(plan.verification_lengths, default=0) <= plan.batch_proposal_length


def test_plans_for_long_steps_live_longer(server: Server) -> None:
    """A plan outlives the step that it arrives in, however long that is: else it would never be used."""
    with EngineStream.connected(server.control, engine_id="slow") as engine:
        assert engine.plan(report(1, duration_ns=2_000_000_000)).time_to_live_ms == 8000
        assert engine.plan(report(2, duration_ns=4_000_000_000, steps=2)).time_to_live_ms == 8000
        assert engine.plan(report(3, duration_ns=0)).time_to_live_ms == 1000
        assert engine.plan(report(4, duration_ns=10_000_000)).time_to_live_ms == 1000


def test_no_plan_exceeds_a_callers_cap(server: Server) -> None:
    """A request whose caller wants no speculation is verified at length 0 in every plan."""
    with EngineStream.connected(server.control, engine_id="caps") as engine:
        first = report(
            1, opened=[opened(0, max_draft=0), opened(1, max_draft=1)], proposed=[0, 1], verified=[0, 1],
            accepted=[0, 1], emitted_tokens=3,
        )  # fmt: skip
        for sequence in range(1, 30):
            plan = engine.plan(
                first
                if sequence == 1
                else report(sequence, proposed=[0, 1], verified=[0, 1], accepted=[0, 1], emitted_tokens=3)
            )
            lengths = dict(zip(plan.slots, plan.verification_lengths, strict=True))
            assert lengths.get(0, plan.default_verification_length) == 0
            assert lengths.get(1, plan.default_verification_length) <= 1


def test_reports_that_queue_up_are_all_learnt_from(server: Server) -> None:
    """100 reports sent at once: all count, and the last plan answers the last report."""
    with EngineStream.connected(server.control, engine_id="queue") as engine:
        for sequence in range(1, 101):
            engine.send(report(sequence))
        plans = [engine.next().plan]
        while plans[-1].report_sequence < 100:
            plans.append(engine.next().plan)
        assert [p.version for p in plans] == list(range(2, 2 + len(plans)))
        assert server.engine("queue").summary.steps == 100


def test_two_engines_with_one_id(server: Server) -> None:
    """The second is refused, naming the field and the id; the first goes on. Ranks are apart."""
    with EngineStream.connected(server.control, engine_id="twin") as first:
        first.plan(report(1))
        before = server.learnt("twin")
        with EngineStream(server.control) as second:
            second.send(hello(engine_id="twin"))
            code, details = second.end()
        assert code is grpc.StatusCode.ALREADY_EXISTS
        assert details.startswith("hello.engine_id: twin/0 is connected already")
        assert server.learnt("twin") == before
        with EngineStream.connected(server.control, engine_id="twin", rank=1) as other_rank:
            assert other_rank.plan(report(1)).report_sequence == 1
        assert first.plan(report(2)).report_sequence == 2


def test_a_restarted_engine_gets_in_at_once_and_what_was_learnt_stays(server: Server) -> None:
    """The old stream of a killed engine does not block the new one, and the estimators go on from there."""
    engine = EngineStream.connected(server.control, engine_id="phoenix")
    for sequence in range(1, 21):
        engine.plan(report(sequence))
    evidence = list(server.engine("phoenix").acceptance.evidence)
    epochs = itertools.count()

    def seconds_until_let_in() -> float:
        nonlocal engine
        again = {"engine_id": "phoenix", "epoch": next(epochs), "live_requests": [opened(0)]}
        engine.hang_up()
        try:
            with Watch() as watch:
                engine = EngineStream.connected(server.control, **again)
            return watch.seconds
        except grpc.RpcError as error:
            # It waits for the old stream's end, which a machine that stands still may be late with.
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
        wait_until(lambda: not server.engine("phoenix").summary.connected, "disconnected")
        engine = EngineStream.connected(server.control, **again)
        return math.inf

    for _ in range(10):
        assert_within(2.0, seconds_until_let_in)
        state = server.engine("phoenix")
        assert list(state.acceptance.evidence) == evidence
        assert state.summary.steps == 0
    plan = engine.plan(report(1, opened=[opened(1)]))
    assert list(plan.slots) == [0, 1]
    engine.close()


def test_another_engine_under_a_known_id_starts_afresh(server: Server) -> None:
    """What was learnt of one draft model is not believed of another."""
    with EngineStream.connected(server.control, engine_id="swap") as engine:
        for sequence in range(1, 21):
            engine.plan(report(sequence))
        assert max(server.engine("swap").acceptance.evidence) > 1
        known = list(server.engine("swap").acceptance.evidence)
    with EngineStream.connected(server.control, engine_id="swap", draft_model="another", max_length=3):
        state = server.engine("swap")
        assert len(state.acceptance.evidence) == 3
        assert list(state.acceptance.evidence) != known[:3]


def test_a_request_can_be_looked_up_while_it_lives(server: Server) -> None:
    """By the engine's own id, from its opening to its closing."""
    with EngineStream.connected(server.control, engine_id="requests") as engine:
        engine.plan(report(1, opened=[opened(0, label="chat", max_draft=4), opened(1)]))
        asked = ipb.GetRequestRequest(engine_id="requests", request_id="request-0")
        state = server.look.GetRequest(asked, timeout=PATIENCE_SECONDS)
        assert (state.slot, state.label, state.max_draft, state.prompt_tokens) == (0, "chat", 4, 100)
        assert (state.verified, state.accepted) == (3, 2)
        assert list(state.acceptance.survivals) == sorted(state.acceptance.survivals, reverse=True)
        assert state.HasField("verification_length")
        engine.plan(report(2, closed_slots=[0]))
        with pytest.raises(grpc.RpcError) as error:
            server.look.GetRequest(asked, timeout=PATIENCE_SECONDS)
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        assert "request-0" in error.value.details()


def test_a_request_can_be_looked_up_by_the_id_that_its_caller_knows(server: Server) -> None:
    """Engines put something around it. Where it is not one request's alone, they are listed."""
    ids = ["cmpl-1-0-0a1b2c3d", "cmpl-11-0-4e5f6a7b", *(f"{i}_chatcmpl-ab-8c9d0e1f" for i in range(7))]

    def look_up(request_id: str) -> str:
        asked = ipb.GetRequestRequest(engine_id="randomised", request_id=request_id)
        return server.look.GetRequest(asked, timeout=PATIENCE_SECONDS).request_id

    def refusal(request_id: str) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as error:
            look_up(request_id)
        return error.value.code(), error.value.details()

    with EngineStream.connected(server.control, engine_id="randomised") as engine:
        slots = list(range(len(ids)))
        engine.plan(report(1, opened=[opened(slot, request_id=ids[slot]) for slot in slots]))
        for part in ("cmpl-1", "cmpl-1-0", "0a1b2c3d", "cmpl-1-0-0a1b2c3d"):
            assert look_up(part) == ids[0]
        assert look_up("6_chatcmpl-ab") == ids[8]
        code, details = refusal("chatcmpl-ab")
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert details.endswith(
            f"'chatcmpl-ab' is part of 7 live requests' ids in engine randomised/0: "
            f"{', '.join(ids[2:7])} and 2 more"
        )
        for unknown in ("chatcmpl-a", "cmpl-1.0", "cmpl-111", "mpl-1"):
            assert refusal(unknown)[0] is grpc.StatusCode.NOT_FOUND, unknown
        assert refusal("") == (grpc.StatusCode.INVALID_ARGUMENT, "request_id: must not be empty")


def test_many_engines_at_once(server: Server) -> None:
    """8 engines with 200 steps each: every report gets its plan, and no engine sees another's."""
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            with EngineStream.connected(server.control, engine_id=f"many-{number}", epoch=number) as engine:
                for sequence in range(1, 201):
                    assert engine.plan(report(sequence)).epoch == number
                assert server.engine(f"many-{number}").summary.steps == 200
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
