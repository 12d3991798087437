"""Clients whose number changes and whose requests differ."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import aiohttp
from turbospec.engines.bench.moving.plan import RequestClass
from turbospec.engines.load import Workload, stream

_STRIDE = 1000
"""Client i sends the workload's requests number i, i + 1000, …: the same ones whatever the others do."""


@dataclass(slots=True)
class InFlight:
    """A request that runs: its class, and how many tokens its client has received."""

    of_class: str
    tokens: int = 0


class Crowd:
    """Clients that each keep one request in flight; client i sends requests of class i modulo the classes.

    `in_flight` has the running requests by name, `tokens` what clients have received, by class.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: str, workload: Workload, classes: Sequence[RequestClass]
    ) -> None:
        """Starts with no client. Use it in a `with` block, in an event loop."""
        self.in_flight: dict[str, InFlight] = {}
        self.tokens: Counter[str] = Counter()
        self._session = session
        self._url = url
        self._workload = workload
        self._classes = classes
        self._clients: list[asyncio.Task[None]] = []
        self._leaving: list[asyncio.Task[None]] = []

    def resize(self, clients: int) -> None:
        """At once. Those that come first stay longest; the requests of those that leave are cancelled."""
        while len(self._clients) > clients:
            client = self._clients.pop()
            client.cancel()
            self._leaving.append(client)
        added = clients - len(self._clients)
        for i in range(added):
            # The first requests are cut short by differing shares, lest all end together again and again.
            client = asyncio.create_task(self._client(len(self._clients), (i + 1) / added))
            self._clients.append(client)

    async def until(self, moment: float) -> None:
        """Returns when `time.perf_counter()` is at `moment`. Raises LoadError once a request has failed."""
        seconds = max(0.0, moment - time.perf_counter())
        done, _ = await asyncio.wait(self._clients, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for client in done:
            client.result()

    async def _client(self, number: int, share: float) -> None:
        of_class = self._classes[number % len(self._classes)]
        while True:
            body = {**self._workload.body(number, share), **of_class.parameters}
            await self._request(body, of_class.name)
            number, share = number + _STRIDE, 1.0

    async def _request(self, body: dict[str, object], of_class: str) -> None:
        name = uuid.uuid4().hex
        request = self.in_flight[name] = InFlight(of_class)
        try:
            async for tokens in stream(self._session, self._url, body, name):
                self.tokens[of_class] += tokens - request.tokens
                request.tokens = tokens
        finally:
            del self.in_flight[name]

    async def __aenter__(self) -> Crowd:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resize(0)
        await asyncio.gather(*self._leaving, return_exceptions=True)
