"""All engines, by id and rank, and what operators say about all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import grpc
from turbospec.sidecar.core.errors import PolicyError
from turbospec.sidecar.server import logs
from turbospec.sidecar.server.engine import Clock, Connection, Directives, Engine
from turbospec.sidecar.server.identity import EngineKey, Hello
from turbospec.sidecar.server.settings import Settings
from turbospec.sidecar.server.wire.errors import LimitError, MessageError, PreconditionError

# A restarted engine may say hello before the end of its old stream has been noticed, which takes some hundred
# milliseconds on a busy host. An adapter waits two seconds for the answer to its hello.
HANDOVER_SECONDS = 1.0


class DuplicateError(MessageError):
    """A live stream holds this engine id and rank."""

    code = grpc.StatusCode.ALREADY_EXISTS


class UnknownEngineError(LookupError):
    """No such engine; the message lists those that there are."""


class Registry:
    """Engines that are connected or left not long ago. Owned by the server's event loop."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.directives = Directives(settings.policy, settings.shadow, settings.length_cap)
        self._settings = settings
        self._clock = clock
        self._engines: dict[EngineKey, Engine] = {}
        self._log = logs.get()

    def __iter__(self) -> Iterator[Engine]:
        return iter([self._engines[key] for key in sorted(self._engines)])

    def __len__(self) -> int:
        return len(self._engines)

    def get(self, key: EngineKey) -> Engine:
        """Raises `UnknownEngineError`."""
        try:
            return self._engines[key]
        except KeyError:
            known = ", ".join(map(str, sorted(self._engines))) or "none"
            raise UnknownEngineError(f"no engine {key}; known: {known}") from None

    def select(self, engine_id: str, rank: int | None) -> list[Engine]:
        """Engines of that id and, unless None, rank; an empty id means all. Raises `UnknownEngineError`."""
        if not engine_id:
            return list(self)
        if rank is not None:
            return [self.get(EngineKey(engine_id, rank))]
        found = [engine for engine in self if engine.key.engine_id == engine_id]
        return found or [self.get(EngineKey(engine_id, 0))]

    async def connect(self, hello: Hello) -> tuple[Engine, Connection]:
        """Gives a new stream its engine. Raises `MessageError` where there is no place for it."""
        engine = self._engines.get(hello.key)
        if engine is not None and engine.connection is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(engine.left.wait(), HANDOVER_SECONDS)
            # Another stream may have been faster, and the engine may have been forgotten.
            engine = self._engines.get(hello.key)
            if engine is not None and engine.connection is not None:
                raise DuplicateError(
                    "hello.engine_id",
                    f"{hello.key} is connected already; give each engine its own id or rank",
                )
        try:
            if engine is None:
                self._make_room()
                engine = Engine(hello, self.directives, self._clock)
            connection = engine.connect(hello)
        except PolicyError as error:
            raise PreconditionError("policy", f"does not fit this engine: {error}") from error
        self._engines[hello.key] = engine
        return engine, connection

    def direct(self, engines: list[Engine] | None, **changes: Any) -> None:
        """Sets directives (by name, as in `Directives`) of some engines, or with None of all, later ones too.

        Raises `PolicyError` naming the engine that cannot follow, and then nothing has changed.
        """
        targets = list(self) if engines is None else engines
        wanted = [replace(engine.directives, **changes) for engine in targets]
        for engine, directives in zip(targets, wanted, strict=True):
            engine.check(directives)
        for engine, directives in zip(targets, wanted, strict=True):
            engine.direct(directives)
            engine.own = engine.own - changes.keys() if engines is None else engine.own | changes.keys()
        if engines is None:
            self.directives = replace(self.directives, **changes)

    def direct_by_settings(self, **changes: Any) -> None:
        """Sets directives of all engines but those for which an operator has set the same ones."""
        for engine in self:
            ours = {name: value for name, value in changes.items() if name not in engine.own}
            directives = replace(engine.directives, **ours)
            try:
                engine.check(directives)
            except PolicyError as error:
                self._log.error("policy.refused", error=str(error), kept=engine.directives.policy)
            else:
                engine.direct(directives)
        self.directives = replace(self.directives, **changes)

    def expire(self) -> None:
        """Forgets engines that left too long ago."""
        for engine in self:
            if (
                engine.connection is None
                and self._clock() - engine.left_at > self._settings.engine_expiry_seconds
            ):
                self._forget(engine, "silent")

    def _make_room(self) -> None:
        if len(self._engines) < self._settings.max_engines:
            return
        away = [engine for engine in self if engine.connection is None]
        if not away:
            raise LimitError(
                "max_engines", f"{self._settings.max_engines} engines is the most, and all are connected"
            )
        self._forget(min(away, key=lambda engine: engine.left_at), "replaced")

    def _forget(self, engine: Engine, why: str) -> None:
        del self._engines[engine.key]
        self._log.info("engine.forgotten", engine=str(engine.key), why=why)
