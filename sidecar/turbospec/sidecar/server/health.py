"""Health by named components, as `grpc.health.v1` tells it.

Names are those of the services; the empty name is healthy when all are. A Unix listener is healthy while
its path leads to it: when something deleted or replaced the socket, engines that start now cannot
connect, and nothing else would notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from grpc_health.v1 import health, health_pb2
from turbospec.sidecar.server import logs
from turbospec.sidecar.server.listeners import Bound

CHECK_INTERVAL_SECONDS = 2.0

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """Watches listeners by their services' names, and keeps a health service up to date."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # not in the stubs
        self._log = logs.get()
        self._reported: dict[str, bool] = {}

    async def watch(self, listeners: Mapping[str, Bound]) -> None:
        """Checks until cancelled."""
        while True:
            await self.update({name: bound.intact() for name, bound in listeners.items()})
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)

    async def update(self, serving: Mapping[str, bool]) -> None:
        """States which components serve."""
        states = {**serving, "": all(serving.values())}
        for name, good in states.items():
            if self._reported.get(name) == good:
                continue
            if name and not good:
                self._log.error("listener.lost", service=name, remedy="restart the controller")
            await self.servicer.set(name, _SERVING if good else _NOT_SERVING)
        self._reported = states

    async def stop(self) -> None:
        """Says NOT_SERVING for all, for good: load balancers and probes must look elsewhere."""
        await self.servicer.enter_graceful_shutdown()
