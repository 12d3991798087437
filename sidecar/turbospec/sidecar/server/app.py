"""The composition root: makes every part of the server, starts it, and stops it in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from turbospec.adapters.address import parse_address
from turbospec.adapters.version import __version__
from turbospec.sidecar.profiles.store import Store, StoreError
from turbospec.sidecar.server import logs
from turbospec.sidecar.server.control import ControlService
from turbospec.sidecar.server.health import Health
from turbospec.sidecar.server.introspection import IntrospectionService
from turbospec.sidecar.server.listeners import TCP_OPTIONS, Bound, ListenError, bind
from turbospec.sidecar.server.metrics.collector import EngineCollector
from turbospec.sidecar.server.metrics.endpoint import MetricsEndpoint
from turbospec.sidecar.server.operations import OperationsService, TokenInterceptor, read_token
from turbospec.sidecar.server.profile_keeping import KEEP_INTERVAL_SECONDS, ProfileKeeper
from turbospec.sidecar.server.registry import Registry
from turbospec.sidecar.server.settings import RELOADABLE, Loaded, Settings, SettingsError
from turbospec.v1 import (
    introspection_pb2,
    introspection_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
    speculation_pb2,
    speculation_pb2_grpc,
)

CONTROL = speculation_pb2.DESCRIPTOR.services_by_name["SpeculationService"].full_name
INTROSPECTION = introspection_pb2.DESCRIPTOR.services_by_name["IntrospectionService"].full_name
OPERATIONS = operations_pb2.DESCRIPTOR.services_by_name["OperationsService"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

OPERATIONS_SOCKET_MODE = 0o600  # engines may open the control socket, and must not steer other engines
EXPIRY_INTERVAL_SECONDS = 1.0

# An engine whose host vanished, or that hangs, leaves a stream that never ends by itself and would hold its
# id: 15 s after its last sign of life it is gone. Adapters may look for us as often.
KEEPALIVE_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


class App:
    """A controller's process. `load` reads the settings again, for reloading."""

    def __init__(self, load: Callable[[], Loaded]) -> None:
        self._load = load
        self._settings = load().settings
        self._log = logs.get()
        self._registry = Registry(self._settings, time.monotonic)
        self._health = Health()
        self._store = self._open_store()
        usable = self._store is not None and self._prepared(self._store)
        self._keeper = ProfileKeeper(self._store if usable else None)
        self._control = ControlService(self._registry, self._keeper, self._settings)
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT. Raises `ListenError` and `SettingsError` before anything serves."""
        self._catch_signals()
        servers = {
            CONTROL: self._control_server(),
            INTROSPECTION: self._introspection_server(),
            OPERATIONS: self._operations_server(),
        }
        listeners: dict[str, Bound] = {}
        tasks: list[asyncio.Task[None]] = []
        metrics: MetricsEndpoint | None = None
        try:
            for name, server in servers.items():
                mode = OPERATIONS_SOCKET_MODE if name == OPERATIONS else 0o660
                listeners[name] = bind(server, parse_address(_address(self._settings, name)), mode=mode)
            metrics = self._metrics_endpoint()
            for server in servers.values():
                await server.start()
            if metrics is not None:
                metrics.start()
            tasks = [
                asyncio.create_task(each)
                for each in (self._health.watch(listeners), self._expire(), self._keep())
            ]
            self._announce(listeners, metrics)
            await self._stop.wait()
        finally:
            for task in tasks:
                task.cancel()
            await self._shut_down(list(servers.values()))
            if metrics is not None:
                await asyncio.to_thread(metrics.close)
            for bound in listeners.values():
                bound.release()
        self._log.info("server.stopped")

    def reload(self) -> dict[str, object]:
        """Reads the settings again, applies those that may change. Raises `SettingsError`: all as before."""
        try:
            settings = self._load().settings
        except SettingsError as error:
            self._log.error("settings.rejected", error=str(error), kept="the settings before")
            raise
        changed = settings.changed_from(self._settings)
        applied: dict[str, Any] = {name: value for name, value in changed.items() if name in RELOADABLE}
        self._registry.direct_by_settings(**applied)
        # What needs a restart stays as it is in force, and is said again at the next reload.
        self._settings = replace(self._settings, **applied)
        waiting = sorted(changed.keys() - RELOADABLE)
        self._log.info("settings.reloaded", **applied, **({"need_restart": waiting} if waiting else {}))
        return applied

    def _control_server(self) -> grpc.aio.Server:
        server = self._server()
        speculation_pb2_grpc.add_SpeculationServiceServicer_to_server(self._control, server)
        # Engines' hosts may probe the same socket.
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, server)
        return server

    def _introspection_server(self) -> grpc.aio.Server:
        server = self._server()
        introspection_pb2_grpc.add_IntrospectionServiceServicer_to_server(
            IntrospectionService(self._registry, time.monotonic), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, server)
        self._reflect(server, INTROSPECTION, HEALTH)
        return server

    def _operations_server(self) -> grpc.aio.Server:
        interceptors: list[TokenInterceptor] = []
        if self._settings.operations_token_file:
            path = Path(self._settings.operations_token_file)
            read_token(path)  # a bad one stops the start, not the first call
            interceptors.append(TokenInterceptor(path))
        server = self._server(*interceptors)
        operations_pb2_grpc.add_OperationsServiceServicer_to_server(
            OperationsService(self._registry, self.reload, self._store), server
        )
        self._reflect(server, OPERATIONS)
        return server

    def _metrics_endpoint(self) -> MetricsEndpoint | None:
        """Where metrics are served, None where nowhere."""
        if not self._settings.metrics_address:
            return None
        collector = EngineCollector(self._registry, time.monotonic, asyncio.get_running_loop())
        return MetricsEndpoint(parse_address(self._settings.metrics_address), collector)

    def _open_store(self) -> Store | None:
        """Where profiles are kept, None where nowhere."""
        if not self._settings.profiles_directory:
            return None
        return Store(Path(self._settings.profiles_directory), self._log.warning)

    def _prepared(self, store: Store) -> bool:
        """Whether profiles can be kept there. A directory that cannot be used costs them, not the start."""
        try:
            store.prepare()
        except StoreError as error:
            self._log.warning("profiles.unavailable", error=str(error))
            return False
        return True

    def _server(self, *interceptors: TokenInterceptor) -> grpc.aio.Server:
        size = ("grpc.max_receive_message_length", self._settings.max_message_bytes)
        return grpc.aio.server(interceptors=interceptors, options=[*TCP_OPTIONS, *KEEPALIVE_OPTIONS, size])

    def _reflect(self, server: grpc.aio.Server, *names: str) -> None:
        if self._settings.reflection:
            reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_by_signal)

    def _reload_by_signal(self) -> None:
        try:
            self.reload()
        except SettingsError:
            return  # said in the log; there is no caller to tell

    def _announce(self, listeners: dict[str, Bound], metrics: MetricsEndpoint | None) -> None:
        bound = {
            "control": listeners[CONTROL].address.target,
            "introspection": listeners[INTROSPECTION].address.target,
            "operations": listeners[OPERATIONS].address.target,
        }
        if metrics is not None:
            bound["metrics"] = metrics.address.target
        if self._settings.ready_file:
            path = Path(self._settings.ready_file)
            part = path.with_name(f"{path.name}.part")
            try:
                part.write_text(json.dumps({**bound, "pid": os.getpid()}) + "\n", encoding="utf-8")
                part.replace(path)  # whoever waits for the file never reads half of it
            except OSError as error:
                raise SettingsError(f"ready_file {path}: {error.strerror}") from error
        self._log.info("server.listening", **bound, version=__version__, policy=self._settings.policy)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_INTERVAL_SECONDS)
            self._registry.expire()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP_INTERVAL_SECONDS)
            await self._keep_profiles()

    async def _keep_profiles(self) -> None:
        for engine in self._registry:
            await self._keeper.keep(engine)

    async def _shut_down(self, servers: list[grpc.aio.Server]) -> None:
        grace = self._settings.shutdown_grace_seconds
        self._log.info("server.stopping", grace_seconds=grace, engines=len(self._registry))
        await self._health.stop()
        self._control.drain()
        await asyncio.gather(*(server.stop(grace) for server in servers))
        await self._keep_profiles()


def _address(settings: Settings, service: str) -> str:
    return {
        CONTROL: settings.control_address,
        INTROSPECTION: settings.introspection_address,
        OPERATIONS: settings.operations_address,
    }[service]


def serve(load: Callable[[], Loaded]) -> int:
    """Runs a controller to its end, and returns the process's exit status. Settings may be bad only later:
    the first `load` has succeeded before."""
    settings = load().settings
    logs.configure(settings.log_level, settings.log_format)

    async def main() -> None:
        await App(load).run()

    try:
        asyncio.run(main())
    except (ListenError, SettingsError) as error:
        logs.get().error("server.failed", error=str(error))
        return 1
    finally:
        logs.close()
    return 0
