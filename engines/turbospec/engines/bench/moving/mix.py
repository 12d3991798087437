"""Requests that differ, side by side on one engine: which they are, and measuring one policy on them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack, nullcontext
from dataclasses import dataclass, replace
from types import TracebackType

from turbospec.engines.bench.e2e.schedule import REST_SECONDS
from turbospec.engines.bench.moving.crowd import Crowd
from turbospec.engines.bench.moving.plan import (
    GOODPUT,
    LONGEST_LENGTH,
    MIX_CONCURRENCY,
    MIXED,
    NONE,
    PROMPT_TOKENS,
    RAMP_SECONDS,
    TEMPERATURES,
    RequestClass,
)
from turbospec.engines.bench.moving.tally import Given, Tally
from turbospec.engines.bench.moving.watching import Watch
from turbospec.engines.load import Workload, open_session
from turbospec.engines.models import SHAPES, MadeModels
from turbospec.engines.processes import Children
from turbospec.engines.stage import vllm
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.engines import MODEL_NAME
from turbospec.engines.stage.steering import NotControlledError, Steering

_FIXED = "fixed"
# Besides before and after a window; seldom, since looking takes time from the engine's cores.
_LOOK_SECONDS = 2.0
_ATTEMPTS = 3


# With few tokens to choose from, greedy decoding soon repeats itself, and decoding at random repeats pairs of
# tokens: the n-gram drafter has proposals for both, most of them right for the first and wrong for the other.
_COPIED, _SHUFFLED = list(range(100, 104)), list(range(100, 108))
# The logits of made models have a standard deviation of about 0.5, a tenth of what trained ones' have: these
# stand for temperatures about ten times as high. At 1 there would be nothing for a draft to agree on.
_MILD, _WARM = 0.05, 0.1


@dataclass(frozen=True, slots=True)
class Mix:
    """A draft method, and classes of requests with as many clients each."""

    method: str
    classes: tuple[RequestClass, ...]
    output_tokens: tuple[int, int]


MIXES: Mapping[str, Mix] = {
    MIXED: Mix(
        vllm.NGRAM,
        (
            RequestClass("copying", {"temperature": 0, "allowed_token_ids": _COPIED}),
            RequestClass("others", {"temperature": 1, "allowed_token_ids": _SHUFFLED}),
        ),
        output_tokens=(192, 384),
    ),
    TEMPERATURES: Mix(
        vllm.DRAFT_MODEL,
        (
            RequestClass("T=0", {"temperature": 0}),
            RequestClass(f"T={_MILD}", {"temperature": _MILD}),
            RequestClass(f"T={_WARM}", {"temperature": _WARM}),
        ),
        output_tokens=(64, 192),
    ),
}


@dataclass(frozen=True, slots=True)
class Window:
    """What came out of one, by class: tokens per second that clients received, and what requests were given.

    `given` is empty without a controller.
    """

    tokens_per_second: Mapping[str, float]
    given: Mapping[str, Given]


class Lineup:
    """Three engines with the same models; one is under load at a time.

    `goodput` has one of its own, so that what it has learnt is from its own lengths; the static lengths
    share one; `none` has one without speculation.
    """

    def __init__(self, children: Children, models: MadeModels, controller: Controller, mix: Mix) -> None:
        """Starts them and waits for them. Use it in a `with` block."""
        self._mix = mix
        self._introspection = controller.introspection
        vocabulary = SHAPES["demo"].vocabulary
        self._workload = Workload(MODEL_NAME, vocabulary, PROMPT_TOKENS, mix.output_tokens)
        self._loaded: str | None = None
        self._engines = {
            name: vllm.start_controlled(
                children, name, models, controller, longest=LONGEST_LENGTH, method=mix.method
            )
            for name in (GOODPUT, _FIXED)
        }
        self._engines[NONE] = vllm.start_without_speculation(children, NONE, models)
        for engine in self._engines.values():
            engine.wait_healthy()
        self._steering = {
            name: Steering(controller.introspection, controller.operations, name)
            for name in (GOODPUT, _FIXED)
        }
        for steering in self._steering.values():
            steering.wait_connected()

    def measure(self, policy: str, seconds: float, *, seed: int) -> Window:
        """One window under `policy`, after a ramp. The same `seed` gives the same prompts.

        A hiccup of the machine can make a plan expire; then it is measured again. Raises LoadError where a
        request failed, NotControlledError where the engine did not follow the policy at any attempt.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._measure_once(policy, seconds, seed)
            except NotControlledError:
                continue
        return self._measure_once(policy, seconds, seed)

    def _measure_once(self, policy: str, seconds: float, seed: int) -> Window:
        name = policy if policy in self._engines else _FIXED
        if name != self._loaded:
            time.sleep(REST_SECONDS)
            self._loaded = name
        steering = self._steering.get(name)
        with nullcontext() if steering is None else steering.following(policy):
            return asyncio.run(self._load(name, seconds, seed))

    async def _load(self, name: str, seconds: float, seed: int) -> Window:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(open_session())
            watch = None
            if name in self._steering:
                watch = await stack.enter_async_context(Watch(self._introspection, name))
            workload = replace(self._workload, seed=seed)
            url, classes = self._engines[name].url, self._mix.classes
            crowd = await stack.enter_async_context(Crowd(session, url, workload, classes))
            crowd.resize(MIX_CONCURRENCY)
            await crowd.until(time.perf_counter() + RAMP_SECONDS)
            look = _Looks(watch, crowd)
            await look()
            began, before = time.perf_counter(), crowd.tokens.copy()
            end = began + seconds
            while (middle := time.perf_counter() + _LOOK_SECONDS) < end:
                await crowd.until(middle)
                await look()
            await crowd.until(end)
            measured = time.perf_counter() - began
            speeds = {c.name: (crowd.tokens[c.name] - before[c.name]) / measured for c in classes}
            await look()
        return Window(speeds, look.tally.given)

    def __enter__(self) -> Lineup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for steering in self._steering.values():
                stack.push(steering)


class _Looks:
    """Asks about every running request, at each call; without a watch, nothing."""

    def __init__(self, watch: Watch | None, crowd: Crowd) -> None:
        self.tally = Tally()
        self._watch = watch
        self._crowd = crowd

    async def __call__(self) -> None:
        if self._watch is None:
            return
        running = list(self._crowd.in_flight.items())
        states = await asyncio.gather(*(self._watch.request(request_id) for request_id, _ in running))
        for (request_id, request), state in zip(running, states, strict=True):
            if state is not None:
                self.tally.note(request_id, request.of_class, request.tokens, state)
