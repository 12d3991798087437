"""The client that an engine's adapter holds: reports in, plans out, and the engine never waits.

    client = ControlClient(control_address(), hello)
    client.start()                      # in the scheduler's process, after it was forked
    ...
    plan = client.current()             # once per step; None: use the engine's own length
    client.submit(record)               # once per step

Whatever happens to the controller, or in the client's own threads, these calls return at once.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable

from turbospec.adapters.address import parse_address
from turbospec.adapters.backlog import Backlog
from turbospec.adapters.backoff import Backoff
from turbospec.adapters.exchange import Exchange
from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import OpenedRequest, StepRecord
from turbospec.adapters.session import Session, SessionEnd
from turbospec.v1 import speculation_pb2 as pb

PROTOCOL_VERSION = 1

logger = logging.getLogger(__name__)

# How often the client's thread looks at the time, and empties the queue where nobody else does.
_WATCH_SECONDS = 0.25
# A controller may word its errors differently each time; a log must not grow with that.
_MAX_DISTINCT_WARNINGS = 32


class ControlClient:
    """Connects to the controller at `address` and stays connected, from a daemon thread.

    `hello` describes the engine; it is called in that thread, once per connection, and the client fills in
    the protocol version, the epoch and the live requests. Raises `AddressError` for an address that is none.

    `open_request`, `close_request`, `submit`, `limited_by_memory` and `current` are for the engine's thread,
    and for one only. A process that forks after `start` must not use the client in the child: threads do not
    survive a fork.
    """

    def __init__(
        self, address: str, hello: Callable[[], pb.Hello], *, rng: random.Random | None = None
    ) -> None:
        self.address = parse_address(address).target
        self._make_hello = hello
        self._backoff = Backoff(rng or random.Random())
        self._exchange = Exchange()
        self._events: list[OpenedRequest | str] = []
        # Never taken by the engine's thread.
        self._lock = threading.Lock()
        self._backlog = Backlog(self._exchange.counters)
        self._closing = threading.Event()
        self._session: Session | None = None
        self._warned: set[str] = set()
        self._thread: threading.Thread | None = None

    # The engine's thread.

    def open_request(
        self, request_id: str, *, label: str = "", max_draft: int | None = None, prompt_tokens: int = 0
    ) -> None:
        """A request is scheduled for the first time. `max_draft` None: the caller set no cap."""
        if self._exchange.open:
            self._events.append(OpenedRequest(request_id, label, max_draft, prompt_tokens))

    def close_request(self, request_id: str) -> None:
        """A request has finished or was aborted, in the step that is submitted next or before it."""
        if self._exchange.open:
            self._events.append(request_id)

    def submit(self, record: StepRecord) -> None:
        """Reports one step. `record` belongs to the client from here on."""
        record.events = self._events
        if self._exchange.submit(record):
            self._events = []

    def limited_by_memory(self) -> None:
        """The step to be scheduled has shorter lengths than its plan, for want of KV cache."""
        self._exchange.counters.memory_limited_steps += 1

    def current(self) -> AppliedPlan | None:
        """The newest plan if it is valid now, else None. Call it once per step: each None is counted."""
        return self._exchange.current()

    def stop(self) -> None:
        """Asks the client's thread to end and does not wait for it. Nothing is taken from now on."""
        self._exchange.open = False
        self._closing.set()

    # Any thread.

    def start(self) -> None:
        """Starts the client's thread, once. It never waits for the controller."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="turbospec-control", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends the connection and the thread. The client gives no plan any more."""
        self._closing.set()
        session = self._session
        if session is not None:
            session.finish(SessionEnd("closed", "closed by the engine"))
        if self._thread is not None:
            self._thread.join(timeout=5.0)
        self._exchange.shut()

    @property
    def connected(self) -> bool:
        """Whether a controller has answered on the present connection."""
        session = self._session
        return session is not None and session.configured_at is not None and not session.over.is_set()

    @property
    def disabled(self) -> bool:
        """Whether the client has stopped for good: closed, or after a fault of its own."""
        return not self._exchange.open

    def counters(self) -> pb.AdapterCounters:
        """Totals so far, as they are reported."""
        return self._exchange.counters.message()

    def fallbacks(self) -> dict[str, int]:
        """Fallbacks so far by reason, such as {"EXPIRED": 3}."""
        counted = self._exchange.counters.fallbacks()
        return {name.removeprefix("FALLBACK_REASON_"): count for name, count in counted.items()}

    # The client's thread.

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._wait(self._connect_once())
        except Exception:
            logger.exception(
                "turbospec: the adapter's client failed and is disabled; the engine is not affected"
            )
        finally:
            self._exchange.shut()

    def _connect_once(self) -> float:
        """Holds one connection for as long as it lasts; seconds to wait before the next."""
        hello = pb.Hello()
        hello.CopyFrom(self._make_hello())
        hello.protocol_version = PROTOCOL_VERSION
        hello.epoch = secrets.randbits(63) + 1
        with self._lock:
            self._absorb()
            del hello.live_requests[:]
            hello.live_requests.extend(self._backlog.begin(hello.epoch))
        session = Session(self.address, hello, self._exchange, self._backlog, self._lock, self._warn)
        self._session = session
        try:
            while not session.over.wait(_WATCH_SECONDS) and not self._closing.is_set():
                session.watch()
        finally:
            session.close()
        if session.fault is not None:
            raise session.fault
        return self._after(session)

    def _after(self, session: Session) -> float:
        end = session.end
        if end is None or self._closing.is_set():
            return 0.0
        self._warn(
            f"end {end.message}",
            f"not controlled from {self.address}: {end.message}. The engine uses its own length meanwhile",
        )
        held = 0.0 if session.configured_at is None else time.monotonic() - session.configured_at
        delay = self._backoff.next_delay(end.kind, held)
        return delay if end.retry_after is None else max(delay, end.retry_after)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._closing.wait(min(left, _WATCH_SECONDS)):
            with self._lock:
                self._absorb()

    def _absorb(self) -> None:
        queue = self._exchange.queue
        for _ in range(len(queue)):
            self._backlog.absorb(queue.popleft())

    def _warn(self, key: str, message: str) -> None:
        """Logs a warning the first time that `key` is seen."""
        if key in self._warned or len(self._warned) >= _MAX_DISTINCT_WARNINGS:
            return
        self._warned.add(key)
        logger.warning("turbospec: %s", message)
