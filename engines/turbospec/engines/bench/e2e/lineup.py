"""The engines of the benchmark, and measuring one policy on the one that it runs on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from types import TracebackType

from turbospec.engines.bench.e2e.schedule import (
    GOODPUT,
    LONGEST_LENGTH,
    NONE,
    RAMP_SECONDS,
    REST_SECONDS,
    TABLE,
)
from turbospec.engines.load import Workload, drive, open_session, stream
from turbospec.engines.models import SHAPES, MadeModels
from turbospec.engines.processes import Children
from turbospec.engines.stage import counters, vllm
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.engines import MODEL_NAME, Engine, Setting
from turbospec.engines.stage.steering import NotControlledError, Steering

FIXED_ENGINE = "fixed"
"""The engine of policies that have none of their own."""
_CONNECT_SECONDS = 10.0
_ATTEMPTS = 3
# On a CPU a prompt's token costs as much as one decoded: with long prompts the ramp would be all prefill.
_PROMPT_TOKENS = 8


_WORKLOAD = Workload(MODEL_NAME, SHAPES["demo"].vocabulary, prompt_tokens=_PROMPT_TOKENS)


@dataclass(frozen=True, slots=True)
class Window:
    """What came out of one. `mean_length` is drafts verified per request and step, None where none was.

    `seconds_per_token` is the median request's, None where none ended.
    """

    tokens_per_second: float
    mean_length: float | None
    seconds_per_token: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """With what a line-up is measured; the defaults are those of a CPU. `longest`: their longest length."""

    workload: Workload = _WORKLOAD
    method: str = vllm.DRAFT_MODEL
    longest: int = LONGEST_LENGTH
    setting: Setting = vllm.ON_CPU
    ramp_seconds: float = RAMP_SECONDS
    rest_seconds: float = REST_SECONDS


class Lineup:
    """Engines with the same models; one is under load at a time.

    `goodput` has one of its own, so that what it has learnt is from its own lengths; `none` and `table`
    need theirs; whatever else is a policy of the controller shares another.
    """

    def __init__(
        self,
        children: Children,
        models: MadeModels,
        controller: Controller,
        place: Place | None = None,
        *,
        controlled: Sequence[str] = (GOODPUT, FIXED_ENGINE),
        plain: Mapping[str, Engine] | None = None,
    ) -> None:
        """Starts the `controlled` engines, and waits for them. Use it in a `with` block.

        `plain`: engines without a controller that are started already, by policy; None: one for `none`.
        """
        self.repeated = 0
        self._loaded: str | None = None
        self._children = children
        self._models = models
        self._place = place or Place()
        self._engines = {
            name: vllm.start_controlled(
                children,
                name,
                models,
                controller,
                longest=self._place.longest,
                method=self._place.method,
                setting=self._place.setting,
            )
            for name in controlled
        }
        if plain is None:
            plain = {
                NONE: vllm.start_without_speculation(children, NONE, models, setting=self._place.setting)
            }
        self._engines.update(plain)
        for engine in self._engines.values():
            engine.wait_healthy()
        self._steering = {
            name: Steering(controller.introspection, controller.operations, name) for name in controlled
        }
        for steering in self._steering.values():
            steering.wait_connected(_CONNECT_SECONDS)

    def start_table(self, entries: Sequence[tuple[int, int, int]]) -> None:
        """Starts the engine that follows vLLM's own table, and waits for it."""
        engine = vllm.start_with_table(
            self._children,
            TABLE,
            self._models,
            entries,
            longest=self._place.longest,
            method=self._place.method,
            setting=self._place.setting,
        )
        self._engines[TABLE] = engine
        engine.wait_healthy()

    def answer_once(self) -> None:
        """One request to its end on every engine: first steps compile, and may take longer than a window."""
        for engine in self._engines.values():
            asyncio.run(_one_request(engine.url, self._place.workload.body(0)))

    def measure(self, policy: str, concurrency: int, seconds: float, *, seed: int) -> Window:
        """One window under `policy`, after a ramp. The same `seed` gives the same prompts.

        A hiccup of the machine can make a plan expire; then it is measured again, and counted in
        `repeated`. Raises LoadError where a request failed, NotControlledError where the engine did not
        follow the policy at any attempt.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._measure_once(policy, concurrency, seconds, seed)
            except NotControlledError:
                self.repeated += 1
        return self._measure_once(policy, concurrency, seconds, seed)

    def _measure_once(self, policy: str, concurrency: int, seconds: float, seed: int) -> Window:
        place = self._place
        workload = replace(place.workload, seed=seed)
        with self.following(policy) as url:
            before = counters.read(url)
            load = asyncio.run(
                drive(
                    url, workload, concurrency=concurrency, ramp_seconds=place.ramp_seconds, seconds=seconds
                )
            )
        mean_length = counters.read(url).since(before).mean_length
        return Window(load.tokens_per_second, mean_length, load.time_per_output_token)

    @contextmanager
    def following(self, policy: str) -> Iterator[str]:
        """The URL of the engine under `policy`, for load in the `with` block.

        Raises NotControlledError at its end where the engine did not follow.
        """
        name = policy if policy in self._engines else FIXED_ENGINE
        if name != self._loaded:
            time.sleep(self._place.rest_seconds)
            self._loaded = name
        steering = self._steering.get(name)
        with nullcontext() if steering is None else steering.following(policy):
            yield self._engines[name].url

    def __enter__(self) -> Lineup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for steering in self._steering.values():
                stack.push(steering)


async def _one_request(url: str, body: dict[str, object]) -> None:
    async with open_session() as session:
        async for _ in stream(session, url, body):
            pass
