"""Requests that run at the same time, until they are not needed any more, and prompts beside them."""

from __future__ import annotations

import asyncio
import itertools
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
    """`load.requests` requests with `output_tokens` each, in flight for as long as the `async with` block.

    Where the load has prompts, further requests for one token each come one after the other, from the time on
    that all others have begun: so a step has at most one prompt, and every one is new to the engine's cache.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        model: str,
        load: Load,
        output_tokens: int,
        *,
        label: str,
        intent_field: str,
        longest: int,
        seed: str,
    ) -> None:
        """`longest` is the length at which the load's requests will run; `seed` makes the prompts.

        `intent_field`: of a request's body, where the engine's adapter looks for the label and the cap.
        """
        self.load = load
        self._session = session
        self._url = url
        self._model = model
        self._intent_field = intent_field
        self._label = label
        self._longest = longest
        self._seed = seed
        self._left = [output_tokens] * load.requests
        self._output_tokens = output_tokens
        self._all_began = asyncio.Event()
        self._clients: list[asyncio.Task[None]] = []
        self._feeder: asyncio.Task[None] | None = None

    @property
    def tokens_left(self) -> int:
        """What the request that is nearest to its end may still receive."""
        return min(self._left)

    @property
    def began(self) -> bool:
        """Whether every request has received a token."""
        return self._all_began.is_set()

    @property
    def ended(self) -> bool:
        """Whether a request has ended."""
        return any(client.done() for client in self._clients)

    def check(self) -> None:
        """Raises LoadError where a request has failed."""
        for task in self._tasks():
            if task.done():
                task.result()

    async def _client(self, number: int) -> None:
        intent: dict[str, object] = {}
        if self.load.ragged and number % 2:
            intent[MAX_DRAFT] = self._longest - 1
        body = self._body(str(number), self.load.context, self._output_tokens, intent)
        async for tokens in stream(self._session, self._url, body):
            self._left[number] = self._output_tokens - tokens
            if max(self._left) < self._output_tokens:
                self._all_began.set()

    async def _feed(self) -> None:
        await self._all_began.wait()
        for number in itertools.count():
            body = self._body(f"prompt {number}", self.load.prefill, 1, {})
            async for _ in stream(self._session, self._url, body):
                pass

    def _body(
        self, name: str, prompt_tokens: int, output_tokens: int, intent: dict[str, object]
    ) -> dict[str, object]:
        phrase = random.Random(f"{self._seed}/{name}").choices(_TOKENS, k=_PHRASE_TOKENS)
        return {
            "model": self._model,
            "prompt": (phrase * (prompt_tokens // _PHRASE_TOKENS + 1))[:prompt_tokens],
            "max_tokens": output_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            self._intent_field: {LABEL: self._label, **intent},
        }

    def _tasks(self) -> list[asyncio.Task[None]]:
        return self._clients if self._feeder is None else [*self._clients, self._feeder]

    async def __aenter__(self) -> Wave:
        self._clients = [asyncio.create_task(self._client(i)) for i in range(self.load.requests)]
        if self.load.prefill:
            self._feeder = asyncio.create_task(self._feed())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The engine aborts a request when its connection closes.
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
