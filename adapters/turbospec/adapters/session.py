"""One connection to a controller, from hello to its end.

Three threads meet here, none of them the engine's: gRPC's consumer calls `__next__` for the next message
to send, the session's reader takes what comes, and the client's thread watches the time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import grpc
from google.protobuf.message import DecodeError
from turbospec.adapters.backlog import Backlog
from turbospec.adapters.exchange import Exchange
from turbospec.adapters.plans import (
    MAX_TIME_TO_LIVE_SECONDS,
    AppliedPlan,
    PlanLimits,
    PlanRefusedError,
    check_plan,
)
from turbospec.v1 import speculation_pb2 as pb

logger = logging.getLogger(__name__)

_METHOD = "/turbospec.v1.SpeculationService/Control"

# Reports that may wait for their plan. More would only be buffered inside gRPC, where nothing coalesces
# them; 16 is twice the lag measured beside an engine that never releases the GIL.
WINDOW = 16
# A controller that does not say `configure` within this time is not one, or is stopped.
CONFIGURE_SECONDS = 2.0
# Reports unanswered for this long: the stream is dead, whatever the kernel says. Longer than a pause of
# a busy host, after which the stream goes on by itself.
STALL_SECONDS = 5.0
# What one look at the clock counts for at most: where this process itself stood still for longer, as on a
# host that was paused, that was not the controller's silence, and its answers may be here already.
LONGEST_LOOK_SECONDS = 1.0
# Messages beyond one per report that are taken between two looks at the clock. Reading costs the engine
# the GIL, so a controller that floods is left.
EXTRA_MESSAGES = 64
# However far away a draining controller says to stay.
LONGEST_DRAIN_SECONDS = 10.0

_OPTIONS = [
    # Subchannels are otherwise shared between channels, and with them a backoff of up to two minutes.
    ("grpc.use_local_subchannel_pool", 1),
    # Retries would buffer what was sent.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_receive_message_length", 1 << 20),
]


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """Why a session ended. `kind` is the same for the same sort of failure; `retry_after` is in seconds."""

    kind: str
    message: str
    retry_after: float | None = None


class Session:
    """Sends reports, takes plans. `over` is set when it has ended, and `end` says why."""

    def __init__(
        self,
        target: str,
        hello: pb.Hello,
        exchange: Exchange,
        backlog: Backlog,
        lock: threading.Lock,
        warn: Callable[[str, str], None],
    ) -> None:
        self.over = threading.Event()
        self.end: SessionEnd | None = None
        self.fault: Exception | None = None
        self.configured_at: float | None = None
        self._hello: bytes | None = pb.ControlRequest(hello=hello).SerializeToString()
        self._limits = PlanLimits.from_hello(hello)
        self._exchange = exchange
        self._backlog = backlog
        self._lock = lock
        self._warn = warn
        self._started_at = self._looked_at = time.monotonic()
        # A queue of the session's own: a writer that is late to leave takes nothing from its successor.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._writer_parked = False
        # Monotonic seconds; while the newest plan allows it, reports are that far apart.
        self._reported_at = 0.0
        self._report_interval = 0.0
        self._unanswered: deque[tuple[int, float]] = deque()
        self._newest_version = 0
        self._shadow = False
        self._credit = EXTRA_MESSAGES
        self._channel = grpc.insecure_channel(target, options=_OPTIONS)
        exchange.wake = self._wake
        control = self._channel.stream_stream(_METHOD, request_serializer=None, response_deserializer=None)
        self._call = control(self)
        self._reader = threading.Thread(target=self._read, name="turbospec-plans", daemon=True)
        self._reader.start()

    # The client's thread.

    def watch(self) -> None:
        """Ends the session where the controller is silent for too long."""
        now = time.monotonic()
        late = max(0.0, now - self._looked_at - LONGEST_LOOK_SECONDS)
        self._looked_at = now
        with self._lock:
            self._absorb()
            self._credit = EXTRA_MESSAGES
            if late:
                self._started_at += late
                self._unanswered = deque((sequence, at + late) for sequence, at in self._unanswered)
            oldest = self._unanswered[0][1] if self._unanswered else now
        if self.configured_at is None and now - self._started_at > CONFIGURE_SECONDS:
            self.finish(SessionEnd("silent", f"no answer to hello within {CONFIGURE_SECONDS:g} s"))
        elif now - oldest > STALL_SECONDS:
            self.finish(SessionEnd("stalled", f"reports unanswered for {STALL_SECONDS:g} s"))

    def close(self) -> None:
        """Ends the session, if it has not ended."""
        self.finish(SessionEnd("closed", "closed by the engine"))
        with self._lock:
            self._backlog.end()
        self._channel.close()

    # gRPC's thread that sends.

    def __iter__(self) -> Session:
        return self

    def __next__(self) -> bytes:
        try:
            message = self._next_message()
        except Exception as fault:  # noqa: BLE001 - the client's thread raises it
            self._fail(fault)
            message = None
        if message is None:
            raise StopIteration
        return message

    def _next_message(self) -> bytes | None:
        while True:
            self._keep_back()
            with self._lock:
                if self.over.is_set():
                    return None
                if self._hello is not None:
                    hello, self._hello = self._hello, None
                    return hello
                message = self._next_report()
            if message is not None:
                return message
            self._wake.get()

    def _keep_back(self) -> None:
        """Waits until the next report is due. Meanwhile the engine's thread has nobody to wake."""
        while not self.over.is_set():
            wait = self._reported_at + self._report_interval - time.monotonic()
            if wait <= 0.0:
                return
            with suppress(Empty):
                self._wake.get(timeout=wait)

    def _next_report(self) -> bytes | None:
        self._writer_parked = self.configured_at is None or len(self._unanswered) >= WINDOW
        if self._writer_parked:
            return None  # the reader wakes this thread, not the engine
        # First the flag, then the look: a record put in between wakes this thread.
        self._exchange.writer_sleeps = True
        self._absorb()
        message = self._backlog.take()
        if message is not None:
            self._exchange.writer_sleeps = False
            self._reported_at = time.monotonic()
            self._unanswered.append((self._backlog.sent_sequence, self._reported_at))
            self._credit += 1
        return message

    def _absorb(self) -> None:
        queue = self._exchange.queue
        # As many as there are now: an engine that never pauses must not keep this thread here.
        for _ in range(len(queue)):
            self._backlog.absorb(queue.popleft())

    # The session's reader.

    def _read(self) -> None:
        try:
            for data in self._call:
                with self._lock:
                    self._receive(data)
                if self.over.is_set():
                    return
            self.finish(SessionEnd("OK", "the controller ended the stream"))
        except grpc.RpcError:
            code, details = self._call.code(), self._call.details()
            self.finish(SessionEnd(code.name, f"{code.name}: {details}"))
        except Exception as fault:  # noqa: BLE001 - the client's thread raises it
            self._fail(fault)

    def _receive(self, data: bytes) -> None:
        if self.over.is_set():
            return  # waited for the lock until after the end: by now plan and slots are a successor's
        self._credit -= 1
        if self._credit < 0:
            self.finish(SessionEnd("flood", "the controller sends more than it is asked"), locked=True)
            return
        response = pb.ControlResponse()
        try:
            response.ParseFromString(data)
        except DecodeError:
            self._refuse(pb.FALLBACK_REASON_INVALID_PLAN, "message", "a message that cannot be decoded")
            return
        match response.WhichOneof("message"):
            case "configure":
                self._configure(response.configure)
            case "plan" if self.configured_at is not None:
                self._take_plan(response.plan)
            case "drain":
                seconds = min(response.drain.reconnect_after_ms / 1e3, LONGEST_DRAIN_SECONDS)
                self.finish(SessionEnd("drain", "the controller is shutting down", seconds), locked=True)
            case "plan":
                self._refuse(pb.FALLBACK_REASON_INVALID_PLAN, "configure", "a plan before configure")
            case _:
                self._refuse(pb.FALLBACK_REASON_INVALID_PLAN, "message", "a message with nothing in it")

    def _configure(self, configure: pb.Configure) -> None:
        self._shadow = configure.shadow
        if self.configured_at is None:
            self.configured_at = time.monotonic()
            self._exchange.counters.connections += 1
            self._exchange.withdraw(pb.FALLBACK_REASON_NO_PLAN)
            logger.info("turbospec: connected to controller %s", configure.controller_version)
            self._unpark()

    def _take_plan(self, plan: pb.Plan) -> None:
        if plan.epoch == self._limits.epoch:
            self._answered(plan.report_sequence)
        try:
            check_plan(
                plan,
                self._limits,
                newest_version=self._newest_version,
                newest_sequence=self._backlog.sent_sequence,
                slots_given=self._backlog.slots.given,
            )
        except PlanRefusedError as refusal:
            self._refuse(refusal.reason, refusal.field, str(refusal))
            return
        self._newest_version = plan.version
        interval = plan.report_interval_ms / 1e3
        if interval < self._report_interval:
            self._wake.put(None)  # the writer may be keeping a report back
        self._report_interval = interval
        if plan.shadow or self._shadow:
            self._exchange.withdraw(pb.FALLBACK_REASON_SHADOW)
        else:
            self._exchange.plan = self._applied(plan)

    def _answered(self, sequence: int) -> None:
        while self._unanswered and self._unanswered[0][0] <= sequence:
            self._unanswered.popleft()
        if len(self._unanswered) < WINDOW:
            self._unpark()

    def _applied(self, plan: pb.Plan) -> AppliedPlan:
        lengths: dict[str, int] = {}
        request_at = self._backlog.slots.request_at
        for slot, length in zip(plan.slots, plan.verification_lengths, strict=True):
            request_id = request_at(slot, plan.report_sequence)
            if request_id is not None:
                lengths[request_id] = length
        self._exchange.counters.ignored_entries += len(plan.slots) - len(lengths)
        limits = self._limits
        return AppliedPlan(
            version=plan.version,
            epoch=plan.epoch,
            report_sequence=plan.report_sequence,
            proposal_length=plan.batch_proposal_length if limits.proposal_settable else limits.max_length,
            default_verification_length=plan.default_verification_length,
            expires_at=time.monotonic() + min(plan.time_to_live_ms / 1e3, MAX_TIME_TO_LIVE_SECONDS),
            verification_lengths=lengths,
            skip_drafter=plan.skip_drafter,
        )

    def _refuse(self, reason: pb.FallbackReason, field: str, message: str) -> None:
        self._exchange.counters.refused_plans[reason] += 1
        self._warn(f"refused {field}", f"ignored what the controller sent: {message}")

    # Any of the three.

    def _unpark(self) -> None:
        if self._writer_parked:
            self._writer_parked = False
            self._wake.put(None)

    def _fail(self, fault: Exception) -> None:
        self.fault = fault
        self.finish(SessionEnd("fault", repr(fault)))

    def finish(self, end: SessionEnd, *, locked: bool = False) -> None:
        """Ends the session by `end` and withdraws its plan, unless it has ended already."""
        if not locked:
            with self._lock:
                self.finish(end, locked=True)
            return
        if self.over.is_set():
            return
        self.end = end
        # Before `over`: from the moment that the client says it is not connected, no step gets this plan.
        self._exchange.withdraw(pb.FALLBACK_REASON_DISCONNECTED)
        self.over.set()
        self._exchange.writer_sleeps = False
        self._wake.put(None)
        self._call.cancel()  # type: ignore[no-untyped-call]
