"""Watching an engine's steps: each with its time and what that depends on, for readers fast and slow."""

from __future__ import annotations

import asyncio
import dataclasses

import grpc
import numpy as np
import pytest
from support.engine_stream import EngineStream, opened, report
from support.patience import PATIENCE_SECONDS, wait_until
from support.serving import Server
from turbospec.sidecar.core.types import Observation, RequestInfo
from turbospec.sidecar.server.introspection import MOST_WATCHES
from turbospec.sidecar.server.step_watch import STEPS_KEPT, StepWatch
from turbospec.v1 import introspection_pb2 as pb
from turbospec.v1 import operations_pb2
from turbospec.v1 import speculation_pb2 as spec

OURS = "ours"


def watching(server: Server, engine_id: str, label: str = OURS) -> grpc.UnaryStreamMultiCallable:
    """A stream of steps that has begun."""
    request = pb.WatchStepsRequest(engine_id=engine_id, label=label)
    watch = server.look.WatchSteps(request, timeout=PATIENCE_SECONDS)
    watch.initial_metadata()
    return watch


def test_each_step_comes_with_what_its_time_depends_on(server: Server) -> None:
    """Times to the nanosecond, counts over the requests, and how many of them carry the label."""
    with EngineStream.connected(server.control, engine_id="stepping") as engine:
        watch = watching(server, "stepping")
        engine.plan(
            report(1, opened=[opened(0, label=OURS), opened(1, label="theirs")], duration_ns=10_000_001)
        )
        (step,) = next(watch).steps
        assert step == pb.ReportedStep(
            sequence=1,
            steps=1,
            duration_seconds=0.010000001,
            requests=2,
            decoding_requests=2,
            labelled_requests=1,
            context_tokens=302,
            target_tokens=7,
            verified_tokens=5,
            proposal_length=3,
            ragged=True,
        )
        engine.plan(
            report(
                2, duration_ns=0, plan_version=1, requests=3, prefill_tokens=30, verified=[3, 3],
                opened=[opened(2, label=OURS)], closed_slots=[1], disturbances=[spec.DISTURBANCE_PREFILL],
                unready_slots=[0, 2],
            )
        )  # fmt: skip
        (step,) = next(watch).steps
        assert not step.HasField("duration_seconds")
        assert list(step.disturbances) == [spec.DISTURBANCE_PREFILL]
        # Who left with the step was in it.
        assert (step.requests, step.decoding_requests, step.labelled_requests) == (3, 2, 2)
        assert (step.target_tokens, step.prefill_tokens, step.verified_tokens) == (38, 30, 6)
        assert (step.ragged, step.plan_version) == (False, 1)
        assert step.labelled_unready_requests == 2
        watch.cancel()


def test_of_requests_that_do_not_decode_only_what_is_sure_is_counted() -> None:
    """A prompt that was computed may be that of each live request which did not decode."""
    live = {slot: RequestInfo(slot, f"r{slot}", label) for slot, label in enumerate(["", OURS, OURS, "x"])}

    def labelled(decoding: list[int], requests: int, label: str = OURS) -> int:
        watch = StepWatch(label)
        watch.offer(observation(decoding, requests), live)
        steps, _ = asyncio.run(watch.take(1.0))
        return steps[0].labelled_requests

    assert labelled([1, 2], 2) == 2
    assert labelled([1], 2) == 1, "the other one may be slot 0 or 3"
    assert labelled([0, 1, 3], 4) == 2, "the other one can only be slot 2"
    assert labelled([], 3) == 1
    assert labelled([0], 1, label="") == 1


def test_a_slow_reader_loses_the_oldest_steps_and_is_told() -> None:
    """What waits is bounded; a reader that comes late gets the newest and the number of the rest."""
    watch = StepWatch(OURS)
    live = {0: RequestInfo(0, "r0", OURS)}
    more = 7
    for sequence in range(1, STEPS_KEPT + more + 1):
        watch.offer(dataclasses.replace(observation([0], 1), sequence=sequence), live)
    steps, lost = asyncio.run(watch.take(1.0))
    assert lost == more
    assert [step.sequence for step in steps] == list(range(more + 1, STEPS_KEPT + more + 1))
    watch.offer(observation([0], 1), live)
    assert asyncio.run(watch.take(1.0))[1] == 0


def observation(decoding: list[int], requests: int) -> Observation:
    n = len(decoding)
    return Observation(
        sequence=1,
        duration=0.01,
        requests=requests,
        slots=np.array(decoding, np.int64),
        proposed=np.full(n, 2),
        verified=np.full(n, 2),
        accepted=np.full(n, 1),
        context_tokens=np.full(n, 100),
        proposal_length=2,
        emitted_tokens=2 * n,
    )


def test_a_reader_that_never_reads_delays_no_plan(server: Server) -> None:
    """A thousand steps run under a watch that nobody reads, each answered; then it still can be read."""
    steps = 1500
    with EngineStream.connected(server.control, engine_id="unread") as engine:
        watch = watching(server, "unread")
        for sequence in range(1, steps + 1):
            engine.plan(report(sequence, context_tokens=[10, 10]))
        seen = lost = 0
        for answer in watch:
            seen, lost = seen + len(answer.steps), lost + answer.lost_steps
            if answer.steps[-1].sequence == steps:
                break
        assert seen + lost == steps
        watch.cancel()


def test_while_somebody_watches_no_report_is_kept_back(server: Server) -> None:
    """Where the drafter is skipped plans let reports wait; single steps' times would be lost with that.

    Negative control: without a watch they may wait.
    """
    abilities = spec.Capabilities(
        proposal_settable=True, proposal_saves_draft_cost=True, verification_per_request=True, deep_off=True
    )
    with EngineStream.connected(server.control, engine_id="hurried", capabilities=abilities) as engine:
        server.operate.SetPolicy(_off("hurried"), timeout=PATIENCE_SECONDS)
        sequence = 0

        def interval() -> int:
            nonlocal sequence
            sequence += 1
            plan = engine.plan(
                report(
                    sequence, verified=[0, 0], accepted=[0, 0], proposed=[0, 0], proposal_length=0,
                    emitted_tokens=2, drafter_skipped=True,
                )
            )  # fmt: skip
            return plan.report_interval_ms

        wait_until(interval, "allowed to wait")
        watch = watching(server, "hurried")
        assert interval() == 0
        watch.cancel()
        wait_until(interval, "allowed to wait again")


def _off(engine_id: str) -> operations_pb2.SetPolicyRequest:
    return operations_pb2.SetPolicyRequest(
        engine=operations_pb2.EngineSelector(engine_id=engine_id), policy="off"
    )


def test_watches_are_bounded_and_who_leaves_makes_room(server: Server) -> None:
    """One more than may be is refused by name; an unknown engine is not found."""
    with pytest.raises(grpc.RpcError) as error:
        next(server.look.WatchSteps(pb.WatchStepsRequest(engine_id="nobody"), timeout=PATIENCE_SECONDS))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    with EngineStream.connected(server.control, engine_id="crowded") as engine:
        watches = [watching(server, "crowded") for _ in range(MOST_WATCHES)]
        with pytest.raises(grpc.RpcError) as error:
            next(server.look.WatchSteps(pb.WatchStepsRequest(engine_id="crowded"), timeout=PATIENCE_SECONDS))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.value.details() == f"engine crowded/0: at most {MOST_WATCHES} watch its steps at a time"
        watches.pop().cancel()
        sequence = 0

        def room() -> bool:
            nonlocal sequence
            watch = server.look.WatchSteps(
                pb.WatchStepsRequest(engine_id="crowded"), timeout=PATIENCE_SECONDS
            )
            watch.initial_metadata()
            sequence += 1
            engine.plan(report(sequence))
            # Only what it sees tells: a call that was refused may seem active for a moment.
            try:
                (step,) = next(watch).steps
            except grpc.RpcError as refused:
                if refused.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                return False
            assert step.sequence == sequence
            watches.append(watch)
            return True

        wait_until(room, "let in")
        for watch in watches:
            watch.cancel()
