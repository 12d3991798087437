"""The suite's controller: speaks the real protocol, writes down what it is told, gives plans.

It runs in the test's own process, so that a test can change its mind between two messages.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import TracebackType

import grpc
from support.conformance.judge import Judge
from turbospec.v1 import speculation_pb2 as pb

FOREVER_MS = 10_000  # as long as adapters let any plan live
_SERVICE = "turbospec.v1.SpeculationService"


@dataclass(frozen=True, slots=True)
class Given:
    """A plan in the suite's terms. `by_request` names lengths of their own; others have `default`.

    `spoil` makes the message wrong that it is sent as.
    """

    proposal_length: int
    default: int
    by_request: Mapping[str, int] = field(default_factory=dict)
    time_to_live_ms: int = FOREVER_MS
    skip_drafter: bool = False
    spoil: Callable[[pb.Plan], None] | None = None

    def length(self, request_id: str) -> int:
        """Verification length of a request."""
        return self.by_request.get(request_id, self.default)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a report says of one request."""

    request_id: str
    proposed: int
    verified: int
    accepted: int
    context_tokens: int


@dataclass(frozen=True, slots=True)
class Told:
    """A report, with slots replaced by requests. `given`: the plan that it says it ran under."""

    message: pb.StepReport
    connection: int
    at: float
    entries: list[Entry]
    opened: list[pb.RequestOpened]
    closed: list[str]
    given: Given | None

    @property
    def steps(self) -> int:
        return self.message.steps or 1


class Connection:
    """One stream. `learnt_at_hello` and `learnt`: how much evidence the real controller's estimators hold.

    `ended_at`: when this side ended it, on the monotonic clock; None where it did not.
    `faults` are messages that the real controller would have ended the stream for.
    """

    def __init__(self, number: int, hello: pb.Hello) -> None:
        self.number = number
        self.hello = hello
        self.said_hello_at = time.monotonic()
        self.ended_at: float | None = None
        self.plans: dict[int, Given] = {}
        self.reports: list[Told] = []
        self.live = {request.slot: request.request_id for request in hello.live_requests}
        self.faults: list[str] = []
        self.learnt_at_hello = self.learnt = 0.0

    def take(self, report: pb.StepReport) -> Told:
        """Follows who is live."""
        self.live.update({request.slot: request.request_id for request in report.opened})
        columns = (report.slots, report.proposed, report.verified, report.accepted, report.context_tokens)
        entries = [
            Entry(self.live.get(slot, f"nobody (slot {slot})"), *numbers)
            for slot, *numbers in zip(*columns, strict=True)
        ]
        closed = [self.live.pop(slot, f"nobody (slot {slot})") for slot in report.closed_slots]
        given = self.plans.get(report.plan_version)
        told = Told(report, self.number, time.monotonic(), entries, list(report.opened), closed, given)
        self.reports.append(told)
        return told


Advice = Callable[[Connection, int], Given | None]
"""What to answer on a connection as plan number so-and-so; None: nothing."""


class Controller:
    """Listens at `address` until it is closed. `advice` may be changed at any time.

    `connections` and `reports` hold everything so far, in order of arrival; of all connections together.
    """

    def __init__(self, address: str, advice: Advice) -> None:
        self.address = address
        self.advice = advice
        self.connections: list[Connection] = []
        self.reports: list[Told] = []
        self._judge = Judge()
        self._lock = threading.Lock()
        self._outbox: SimpleQueue[pb.ControlResponse | None] = SimpleQueue()
        # After how many more reports the stream ends, and the `drain` that it ends with.
        self._ends_in: int | None = None
        self._drain_ms: int | None = None
        handler = grpc.stream_stream_rpc_method_handler(
            self._control, response_serializer=pb.ControlResponse.SerializeToString
        )
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"Control": handler}),)
        )
        self._server.add_insecure_port(address)
        self._server.start()

    @property
    def newest(self) -> Connection:
        """The newest connection."""
        return self.connections[-1]

    def end_stream(self, *, after: int, drain_ms: int | None = None) -> None:
        """The stream ends after so many more reports; with `drain_ms`, the engine is told to stay away."""
        with self._lock:
            self._ends_in, self._drain_ms = after, drain_ms

    def answer(self) -> None:
        """Gives a plan unasked: an adapter that is owed many answers reports nothing more."""
        with self._lock:
            self._answer(self.newest)

    def close(self) -> None:
        self._outbox.put(None)
        self._server.stop(grace=1.0).wait()

    def __enter__(self) -> Controller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _control(self, requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[pb.ControlResponse]:
        outbox: SimpleQueue[pb.ControlResponse | None] = SimpleQueue()
        threading.Thread(target=self._listen, args=(requests, outbox), daemon=True).start()
        while (message := outbox.get()) is not None:
            yield message

    def _listen(self, requests: Iterator[bytes], outbox: SimpleQueue[pb.ControlResponse | None]) -> None:
        try:
            hello = pb.ControlRequest.FromString(next(requests))
            with self._lock:
                connection = self._connect(hello, outbox)
            for data in requests:
                request = pb.ControlRequest.FromString(data)
                with self._lock:
                    if connection is self.newest:
                        self._take(connection, request)
        except (grpc.RpcError, StopIteration):
            pass  # the engine is gone
        finally:
            outbox.put(None)

    def _connect(
        self, request: pb.ControlRequest, outbox: SimpleQueue[pb.ControlResponse | None]
    ) -> Connection:
        connection = Connection(len(self.connections), request.hello)
        connection.faults += self._judge.hello(request)
        connection.learnt_at_hello = connection.learnt = self._judge.learnt
        self.connections.append(connection)
        self._outbox = outbox
        self._outbox.put(pb.ControlResponse(configure=pb.Configure(controller_version="conformance")))
        self._answer(connection)
        return connection

    def _take(self, connection: Connection, request: pb.ControlRequest) -> None:
        self.reports.append(connection.take(request.report))
        connection.faults += self._judge.report(request)
        connection.learnt = self._judge.learnt
        if self._ends_in is not None:
            self._ends_in -= 1
            if self._ends_in <= 0:
                self._end(connection)
                return
        self._answer(connection)

    def _end(self, connection: Connection) -> None:
        self._ends_in = None
        connection.ended_at = time.monotonic()
        if self._drain_ms is not None:
            self._outbox.put(pb.ControlResponse(drain=pb.Drain(reconnect_after_ms=self._drain_ms)))
        self._outbox.put(None)

    def _answer(self, connection: Connection) -> None:
        version = len(connection.plans) + 1
        given = self.advice(connection, version)
        if given is None:
            return
        connection.plans[version] = given
        lengths = given.by_request
        named = {slot: lengths[id_] for slot, id_ in connection.live.items() if id_ in lengths}
        plan = pb.Plan(
            version=version,
            epoch=connection.hello.epoch,
            report_sequence=connection.reports[-1].message.sequence if connection.reports else 0,
            time_to_live_ms=given.time_to_live_ms,
            batch_proposal_length=given.proposal_length,
            default_verification_length=given.default,
            slots=named,
            verification_lengths=named.values(),
            reason=pb.PLAN_REASON_FIXED,
            skip_drafter=given.skip_drafter,
        )
        if given.spoil is not None:
            given.spoil(plan)
        self._outbox.put(pb.ControlResponse(plan=plan))
