"""The hot service: one stream per engine scheduler, a plan for each report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError
from turbospec.adapters.version import __version__
from turbospec.sidecar.core.errors import ObservationError
from turbospec.sidecar.server import logs
from turbospec.sidecar.server.engine import Connection, Decided, Engine
from turbospec.sidecar.server.profile_keeping import ProfileKeeper, start_from
from turbospec.sidecar.server.registry import Registry
from turbospec.sidecar.server.settings import Settings
from turbospec.sidecar.server.wire.errors import MessageError, PreconditionError
from turbospec.sidecar.server.wire.hello import read_first
from turbospec.sidecar.server.wire.plan import write_plan
from turbospec.sidecar.server.wire.report import read_counters, read_report
from turbospec.sidecar.server.wire.views import rounded
from turbospec.v1 import speculation_pb2 as pb
from turbospec.v1 import speculation_pb2_grpc as pb_grpc

HELLO_SECONDS = 10.0  # a stream that says nothing costs memory and can never become an engine
LAST_PLAN_SECONDS = 2.0  # only an engine that reads nothing takes longer; it gets no status
RECONNECT_AFTER_MS = 500  # a restarted controller listens by then
SHADOW_LOG_SECONDS = 10.0  # in shadow mode the log tells what would have been done, this often

Context = grpc.aio.ServicerContext[pb.ControlRequest, pb.ControlResponse]


class FaultError(MessageError):
    """The controller of one engine failed."""

    code = grpc.StatusCode.INTERNAL


class DrainError(MessageError):
    """The server stops."""

    code = grpc.StatusCode.UNAVAILABLE


class ControlService(pb_grpc.SpeculationServiceServicer):
    """Speaks with engines."""

    def __init__(self, registry: Registry, keeper: ProfileKeeper, settings: Settings) -> None:
        self._registry = registry
        self._keeper = keeper
        self._settings = settings
        self._draining = False
        self._log = logs.get()

    def drain(self) -> None:
        """Sends `drain` to all engines, ends their streams and takes no new ones."""
        self._draining = True
        for engine in self._registry:
            engine.wake()

    async def Control(self, _requests: AsyncIterator[pb.ControlRequest], context: Context) -> None:
        """Runs one engine's stream; see the protocol for the statuses it can end with."""
        try:
            await self._serve(context)
        except MessageError as error:
            if not isinstance(error, DrainError):
                self._log.warning(
                    "stream.refused", code=error.code.name, error=str(error), peer=context.peer()
                )
            await context.abort(error.code, str(error))

    async def _serve(self, context: Context) -> None:
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                first = await _read(context)
        except TimeoutError:
            raise PreconditionError("hello", f"must come within {HELLO_SECONDS:.0f} s") from None
        if first is None:
            return
        hello = read_first(first, self._settings.max_requests_per_engine)
        if self._draining:
            raise DrainError("controller", "is shutting down")
        match = await self._keeper.find(hello)
        engine, connection = await self._registry.connect(hello)
        if match is not None and not engine.controller.latency().evidence_steps:
            start_from(engine, match)
        stream = _Stream(self, engine, connection, context)
        try:
            stream.log.info("engine.connected", peer=context.peer(), **_described(engine))
            await stream.run()
        finally:
            engine.disconnect()
            stream.log.info("engine.disconnected", steps=connection.steps, plans=connection.plans)

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def settings(self) -> Settings:
        return self._settings


class _Stream:
    """An accepted stream: reports are read while plans are written.

    Reading never waits for writing, so when plans are slower than reports, all reports are learnt from and
    one plan answers all that have come.
    """

    def __init__(
        self, service: ControlService, engine: Engine, connection: Connection, context: Context
    ) -> None:
        self.log: structlog.typing.FilteringBoundLogger = logs.get(engine=str(engine.key))
        self._service = service
        self._engine = engine
        self._connection = connection
        self._context = context
        self._ended = False
        self._told_at = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Until the engine leaves, or `MessageError`."""
        writer = asyncio.create_task(self._write())
        tasks = {asyncio.create_task(self._read()), writer}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except grpc.aio.BaseError as error:  # gRPC's word for a peer that vanished in the middle of a call
            self.log.info("stream.broken", error=str(error))
        finally:
            self._ended = True
            self._connection.wake.set()
            # gRPC takes one thing at a time: no status can follow while a plan is on its way.
            await asyncio.wait([writer], timeout=LAST_PLAN_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        hello = self._connection.hello
        limit = self._service.settings.max_requests_per_engine
        while (request := await _read(self._context)) is not None:
            kind = request.WhichOneof("message")
            if kind == "hello":
                raise PreconditionError("hello", "must come once, as the first message of a stream")
            if kind is None:
                raise MessageError("message", "must carry a report")
            observation = read_report(request.report, hello, limit - len(self._engine.requests))
            counters = read_counters(request.report)
            with self._contained():
                self._engine.observe(observation)
            self._connection.plan_age_steps = (
                request.report.plan_age_steps if request.report.HasField("plan_age_steps") else None
            )
            if counters is not None:
                self._engine.count(counters)
            self._connection.wake.set()
            # The plan first: asking gRPC for the next report takes as long as making a small one.
            await asyncio.sleep(0)

    async def _write(self) -> None:
        shadow: bool | None = None
        while not self._service.draining:
            if shadow != self._engine.directives.shadow:
                shadow = self._engine.directives.shadow
                await self._context.write(
                    pb.ControlResponse(configure=pb.Configure(controller_version=__version__, shadow=shadow))
                )
            self._connection.wake.clear()
            with self._contained():
                decided = self._engine.decide()
            self.log.debug("plan.made", version=decided.version, why=decided.decision.explanation)
            if decided.shadow:
                self._tell(decided)
            time_to_live_ms = self._engine.plan_time_to_live_ms(self._service.settings.plan_time_to_live_ms)
            await self._context.write(
                write_plan(
                    decided,
                    self._connection.hello.epoch,
                    time_to_live_ms=time_to_live_ms,
                    report_interval_ms=self._engine.report_interval_ms(decided),
                )
            )
            await self._connection.wake.wait()
            if self._ended:
                return
        await self._context.write(pb.ControlResponse(drain=pb.Drain(reconnect_after_ms=RECONNECT_AFTER_MS)))
        raise DrainError("controller", "is shutting down")

    def _tell(self, decided: Decided) -> None:
        """Logs what is not applied, now and then."""
        now = asyncio.get_running_loop().time()
        goodput = self._engine.controller.goodput()
        if now - self._told_at < SHADOW_LOG_SECONDS or goodput.estimated_gain is None:
            return
        self._told_at = now
        self.log.info(
            "shadow.estimate",
            would_propose=decided.decision.proposal_length,
            realised_tokens_per_second=rounded(goodput.realised or 0.0),
            promised_tokens_per_second=rounded(goodput.predicted or 0.0),
            estimated_gain_ratio=rounded(goodput.estimated_gain),
            why=decided.decision.explanation,
        )

    @contextmanager
    def _contained(self) -> Iterator[None]:
        """A fault of one engine's controller ends that engine's stream and is no other engine's concern."""
        try:
            yield
        except ObservationError as error:
            raise MessageError(f"report.{error.field}", error.message) from error
        except Exception as error:
            self._engine.fault = f"{type(error).__name__}: {error}"
            self.log.exception("controller.failed", remedy="the engine keeps its own length and reconnects")
            raise FaultError("controller", "failed on this engine; see the controller's log") from error


async def _read(context: Context) -> pb.ControlRequest | None:
    """The next message. None: the engine has closed its side."""
    try:
        request: Any = await context.read()
    except DecodeError as error:
        raise MessageError("message", f"is not a ControlRequest: {error}") from error
    return None if request is grpc.aio.EOF else request  # type: ignore[attr-defined]  # not in the stubs


def _described(engine: Engine) -> dict[str, object]:
    identity = engine.hello.identity
    return {
        "software": f"{identity.engine_name} {identity.engine_version}",
        "model": identity.model,
        "method": identity.method,
        "max_length": engine.hello.capabilities.max_length,
        "policy": engine.directives.policy,
        "live_requests": len(engine.requests),
    }
