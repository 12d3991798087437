"""The cold, read-only service: what the controller knows and why it decided so."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Collection
from typing import Any

import grpc
from turbospec.adapters.version import __version__
from turbospec.sidecar.core.types import RequestInfo
from turbospec.sidecar.server.engine import DECISIONS_KEPT, Clock, Engine
from turbospec.sidecar.server.identity import EngineKey
from turbospec.sidecar.server.registry import Registry, UnknownEngineError
from turbospec.sidecar.server.step_watch import StepWatch
from turbospec.sidecar.server.wire import views
from turbospec.v1 import introspection_pb2 as pb
from turbospec.v1 import introspection_pb2_grpc as pb_grpc

DEFAULT_DECISIONS = 10
DEFAULT_PER_SECOND = 1.0
MATCHES_LISTED = 5
MOST_PER_SECOND = 100.0  # a person or a recorder; the stream must not compete with the engines'
MOST_WATCHES = 4  # each costs the engines' event loop some ten microseconds per step
WATCH_SECONDS = 1.0  # how soon a watcher of steps learns that its engine was forgotten


class IntrospectionService(pb_grpc.IntrospectionServiceServicer):
    """Looks into the registry. Changes nothing."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._started = clock()

    async def ListEngines(
        self,
        _request: pb.ListEnginesRequest,
        _context: grpc.aio.ServicerContext[pb.ListEnginesRequest, pb.ListEnginesResponse],
    ) -> pb.ListEnginesResponse:
        now = self._clock()
        return pb.ListEnginesResponse(
            engines=[views.summary(engine, now) for engine in self._registry],
            controller_version=__version__,
            uptime_seconds=round(now - self._started, 3),
        )

    async def GetEngine(
        self,
        request: pb.GetEngineRequest,
        context: grpc.aio.ServicerContext[pb.GetEngineRequest, pb.GetEngineResponse],
    ) -> pb.GetEngineResponse:
        engine = await self._engine(request.engine_id, request.rank, context)
        return views.engine_state(engine, self._clock())

    async def GetRequest(
        self,
        request: pb.GetRequestRequest,
        context: grpc.aio.ServicerContext[pb.GetRequestRequest, pb.GetRequestResponse],
    ) -> pb.GetRequestResponse:
        engine = await self._engine(request.engine_id, request.rank, context)
        if not request.request_id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "request_id: must not be empty")
        found = _named(request.request_id, engine.requests.values())
        if not found:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"request_id: no live request {request.request_id!r} in engine {engine.key}; "
                f"{len(engine.requests)} are live",
            )
        if len(found) > 1:
            listed = ", ".join(live.request_id for live in found[:MATCHES_LISTED])
            more = f" and {len(found) - MATCHES_LISTED} more" if len(found) > MATCHES_LISTED else ""
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"request_id: {request.request_id!r} is part of {len(found)} live requests' ids in engine "
                f"{engine.key}: {listed}{more}",
            )
        return views.request_state(engine, found[0])

    async def ExplainDecisions(
        self,
        request: pb.ExplainDecisionsRequest,
        context: grpc.aio.ServicerContext[pb.ExplainDecisionsRequest, pb.ExplainDecisionsResponse],
    ) -> pb.ExplainDecisionsResponse:
        if request.limit > DECISIONS_KEPT:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"limit: at most {DECISIONS_KEPT}, not {request.limit}"
            )
        engine = await self._engine(request.engine_id, request.rank, context)
        now = self._clock()
        newest = list(engine.decisions)[::-1][: request.limit or DEFAULT_DECISIONS]
        return pb.ExplainDecisionsResponse(decisions=[views.decision(decided, now) for decided in newest])

    async def WatchDecisions(
        self,
        request: pb.WatchDecisionsRequest,
        context: grpc.aio.ServicerContext[pb.WatchDecisionsRequest, pb.WatchDecisionsResponse],
    ) -> AsyncIterator[pb.WatchDecisionsResponse]:
        rate = request.max_per_second or DEFAULT_PER_SECOND
        if not 0.0 < rate <= MOST_PER_SECOND:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"max_per_second: above 0 and at most {MOST_PER_SECOND:.0f}, not {rate}",
            )
        shown = None
        while True:
            # Asked for each time: an engine that comes back is the same to a watcher.
            engine = await self._engine(request.engine_id, request.rank, context)
            newest = engine.decisions[-1] if engine.decisions else None
            if newest is not None and newest is not shown:
                shown = newest
                yield pb.WatchDecisionsResponse(decision=views.decision(newest, self._clock()))
            await asyncio.sleep(1.0 / rate)

    async def WatchSteps(
        self,
        request: pb.WatchStepsRequest,
        context: grpc.aio.ServicerContext[pb.WatchStepsRequest, pb.WatchStepsResponse],
    ) -> AsyncIterator[pb.WatchStepsResponse]:
        engine = await self._engine(request.engine_id, request.rank, context)
        if len(engine.watches) >= MOST_WATCHES:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"engine {engine.key}: at most {MOST_WATCHES} watch its steps at a time",
            )
        watch = StepWatch(request.label)
        engine.watches.add(watch)
        try:
            await context.send_initial_metadata(())
            while True:
                steps, lost = await watch.take(WATCH_SECONDS)
                if steps:
                    yield pb.WatchStepsResponse(steps=map(views.step, steps), lost_steps=lost)
                elif (now := await self._engine(request.engine_id, request.rank, context)) is not engine:
                    # It was forgotten and has come back: to a watcher it is the same.
                    engine.watches.discard(watch)
                    engine = now
                    engine.watches.add(watch)
        finally:
            engine.watches.discard(watch)

    async def _engine(self, engine_id: str, rank: int, context: grpc.aio.ServicerContext[Any, Any]) -> Engine:
        try:
            return self._registry.get(EngineKey(engine_id, rank))
        except UnknownEngineError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"engine_id: {error}")


def _named(text: str, live: Collection[RequestInfo]) -> list[RequestInfo]:
    """The request with this id, else all whose id has `text` as a part that no letter or digit continues.

    Engines lengthen the id that a caller knows: vLLM makes `0_cmpl-7-0-1b3f5d79` of `cmpl-7`.
    """
    exact = [request for request in live if request.request_id == text]
    if exact:
        return exact[-1:]  # an id that was used again: the newest
    part = rf"(?<![^\W_]){re.escape(text)}(?![^\W_])"
    return [request for request in live if text in request.request_id and re.search(part, request.request_id)]
