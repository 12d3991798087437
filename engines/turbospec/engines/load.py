"""Closed-loop load on an OpenAI completions endpoint, measured while it streams.

A fixed number of clients each keep exactly one request in flight. Only what arrives in a window after
the ramp counts; requests still running at its end are cancelled, so that no tail with fewer clients is
measured. Requests differ in length and the first ones are cut short by differing shares: otherwise all
would end together, again and again, and a window would hold one wave of prefills more or less. Tokens
are counted by the usage that the server reports with every chunk: under speculation a chunk holds
several tokens.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field

import aiohttp

# Special tokens come first in most vocabularies and are not text.
_FIRST_ORDINARY_TOKEN = 16
# A window in which this process itself stood still for so long tells nothing of the server; another one may.
_STOOD_STILL_SECONDS = 1.0
_LOOK_SECONDS = 0.5
_ATTEMPTS = 3


class LoadError(Exception):
    """A request failed; a measurement with failures is none."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What the clients send. Request number i has the same prompt in every run with the same seed."""

    model: str
    vocabulary: int
    prompt_tokens: int = 32
    output_tokens: tuple[int, int] = (64, 192)
    """Shortest and longest answer; lengths are uniform between them."""
    seed: int = 0
    parameters: Mapping[str, object] = field(default_factory=dict)
    """What requests ask for besides, in the terms of the completions API."""

    def body(self, number: int, share: float = 1.0) -> dict[str, object]:
        """The JSON body of request `number`: of exactly the length drawn, times `share`; greedy by itself."""
        draw = random.Random(f"{self.seed}/{number}")
        prompt = [draw.randrange(_FIRST_ORDINARY_TOKEN, self.vocabulary) for _ in range(self.prompt_tokens)]
        length = draw.randint(*self.output_tokens)
        return {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": max(1, round(share * length)),
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            **self.parameters,
        }


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What users received within the window.

    `time_to_first_token` and `time_per_output_token` are medians in seconds over requests that began,
    respectively ended, within the window; None where none did.
    """

    seconds: float
    tokens: int
    completed_requests: int
    time_to_first_token: float | None
    time_per_output_token: float | None

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


@dataclass(slots=True)
class _Window:
    """Collects from all clients; counts only while open."""

    open: bool = False
    tokens: int = 0
    first_token_seconds: list[float] = field(default_factory=list)
    per_token_seconds: list[float] = field(default_factory=list)

    def begin(self) -> None:
        """Opens it, with nothing in it."""
        self.open, self.tokens = True, 0
        self.first_token_seconds.clear()
        self.per_token_seconds.clear()


async def drive(
    url: str, workload: Workload, *, concurrency: int, ramp_seconds: float, seconds: float
) -> LoadResult:
    """Keeps `concurrency` requests in flight at the server `url`; measures `seconds` after the ramp.

    Measures again, up to twice, where the machine stood still meanwhile. Raises LoadError at the first failed
    request.
    """
    window = _Window()
    numbers = itertools.count()
    async with open_session() as session:
        clients = [
            asyncio.create_task(_client(session, url, workload, numbers, (i + 1) / concurrency, window))
            for i in range(concurrency)
        ]
        try:
            await _run(clients, ramp_seconds)
            for _ in range(_ATTEMPTS):
                window.begin()
                began = time.perf_counter()
                stood_still = await _run(clients, seconds)
                window.open = False
                measured = time.perf_counter() - began
                if not stood_still:
                    break
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
    return LoadResult(
        seconds=measured,
        tokens=window.tokens,
        completed_requests=len(window.per_token_seconds),
        time_to_first_token=_median(window.first_token_seconds),
        time_per_output_token=_median(window.per_token_seconds),
    )


async def _run(clients: list[asyncio.Task[None]], seconds: float) -> bool:
    """Lets them ask for so long, unless one fails; whether this process stood still meanwhile."""
    end, longest = time.perf_counter() + seconds, 0.0
    while (left := end - (looked := time.perf_counter())) > 0:
        look = min(left, _LOOK_SECONDS)
        done, _ = await asyncio.wait(clients, timeout=look, return_when=asyncio.FIRST_EXCEPTION)
        for client in done:
            client.result()
        longest = max(longest, time.perf_counter() - looked - look)
    return longest >= _STOOD_STILL_SECONDS


async def _client(
    session: aiohttp.ClientSession,
    url: str,
    workload: Workload,
    numbers: Iterator[int],
    first_share: float,
    window: _Window,
) -> None:
    share = first_share
    while True:
        await _request(session, url, workload.body(next(numbers), share), window)
        share = 1.0


async def _request(
    session: aiohttp.ClientSession, url: str, body: dict[str, object], window: _Window
) -> None:
    began = time.perf_counter()
    first: float | None = None
    tokens = 0
    async for total in stream(session, url, body):
        now = time.perf_counter()
        if window.open:
            window.tokens += total - tokens
        if first is None:
            first = now
            if window.open:
                window.first_token_seconds.append(now - began)
        tokens, last = total, now
    if window.open and first is not None and tokens > 1:
        window.per_token_seconds.append((last - first) / (tokens - 1))


def open_session() -> aiohttp.ClientSession:
    """A session for `stream`; open it in the event loop that uses it, and close it."""
    # No limit on connections: the closed loop is the limit. A silent server is an error within a minute, and
    # not sooner: a busy machine can hold this process or the server up for seconds; one that is gone refuses.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=60, sock_read=60)
    # A connection for each request: servers close one that was idle (vLLM after 5 s), maybe just as it is
    # used again, and a POST is not repeated.
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True), timeout=timeout)


async def stream(
    session: aiohttp.ClientSession, url: str, body: Mapping[str, object], name: str | None = None
) -> AsyncIterator[int]:
    """Sends a request to the server `url`; yields how many tokens it has, each time that more arrive.

    vLLM's id of the request contains its `name`. Raises LoadError where it fails, or ends
    with fewer tokens than its `max_tokens`.
    """
    headers = {} if name is None else {"X-Request-Id": name}
    tokens = 0
    try:
        async with session.post(f"{url}/v1/completions", json=body, headers=headers) as response:
            if response.status != 200:
                raise LoadError(f"{url}: status {response.status}: {(await response.text())[:500]}")
            async for total in _token_counts(response):
                if total > tokens:
                    tokens = total
                    yield total
    except (aiohttp.ClientError, TimeoutError) as error:
        raise LoadError(f"{url}: {type(error).__name__}: {error}") from error
    if tokens != body["max_tokens"]:
        raise LoadError(f"{url}: a request ended after {tokens} of {body['max_tokens']} tokens")


async def _token_counts(response: aiohttp.ClientResponse) -> AsyncIterator[int]:
    """Tokens generated so far, for each server-sent event. Raises LoadError for an error event."""
    async for line in response.content:
        text = line.decode().strip()
        if not text.startswith("data:") or text == "data: [DONE]":
            continue
        event = json.loads(text.removeprefix("data:"))
        if "error" in event:
            raise LoadError(f"{response.url}: {event['error']}")
        if (usage := event.get("usage")) is not None:
            yield usage["completion_tokens"]


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None
