"""Requests that run at the same time, from their admission until they are not needed any more."""

from __future__ import annotations

import asyncio
import random
from types import TracebackType

import aiohttp
from turbospec.adapters.intent import LABEL, MAX_DRAFT
from turbospec.engines.load import stream
from turbospec.engines.profiling.plan import Load

# Every vocabulary has these tokens, and special ones come first in most. Costs do not depend on which.
_TOKENS = range(16, 256)
# Prompts repeat a phrase, so that drafters which copy find something to copy.
_PHRASE_TOKENS = 32


class Wave:
    """`load.requests` requests with `output_tokens` each, in flight for as long as the `async with` block."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        model: str,
        load: Load,
        output_tokens: int,
        *,
        label: str,
        longest: int,
        seed: str,
    ) -> None:
        """`longest` is the length at which the load's requests will run; `seed` makes the prompts."""
        self.load = load
        self._session = session
        self._url = url
        self._bodies = [
            _body(model, load, output_tokens, number, label=label, longest=longest, seed=seed)
            for number in range(load.requests)
        ]
        self._left = [output_tokens] * load.requests
        self._output_tokens = output_tokens
        self._clients: list[asyncio.Task[None]] = []

    @property
    def tokens_left(self) -> int:
        """What the request that is nearest to its end may still receive."""
        return min(self._left)

    @property
    def began(self) -> bool:
        """Whether every request has received a token."""
        return max(self._left) < self._output_tokens

    @property
    def ended(self) -> bool:
        """Whether a request has ended."""
        return any(client.done() for client in self._clients)

    def check(self) -> None:
        """Raises LoadError where a request has failed."""
        for client in self._clients:
            if client.done():
                client.result()

    async def _client(self, number: int) -> None:
        body = self._bodies[number]
        async for tokens in stream(self._session, self._url, body):
            self._left[number] = self._output_tokens - tokens

    async def __aenter__(self) -> Wave:
        self._clients = [asyncio.create_task(self._client(i)) for i in range(self.load.requests)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The engine aborts a request when its connection closes.
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)


def _body(
    model: str, load: Load, output_tokens: int, number: int, *, label: str, longest: int, seed: str
) -> dict[str, object]:
    draw = random.Random(f"{seed}/{number}")
    phrase = draw.choices(_TOKENS, k=_PHRASE_TOKENS)
    intent: dict[str, object] = {LABEL: label}
    if load.ragged and number % 2:
        intent[MAX_DRAFT] = longest - 1
    return {
        "model": model,
        "prompt": (phrase * (load.context // _PHRASE_TOKENS + 1))[: load.context],
        "max_tokens": output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "vllm_xargs": intent,
    }
