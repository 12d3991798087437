"""The engines of the benchmark, and measuring one policy on the one that it runs on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from types import TracebackType

from turbospec.engines.bench.e2e.schedule import GOODPUT, RAMP_SECONDS, REST_SECONDS
from turbospec.engines.load import Workload, drive, open_session, stream
from turbospec.engines.models import SHAPES
from turbospec.engines.stage import vllm
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.engines import MODEL_NAME, Engine
from turbospec.engines.stage.kinds import EngineKind
from turbospec.engines.stage.steering import NotControlledError, Steering

FIXED_ENGINE = "fixed"
"""The engine of policies that have none of their own."""
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
    """With what a line-up is measured; the defaults are those of vLLM on a CPU."""

    workload: Workload = _WORKLOAD
    ramp_seconds: float = RAMP_SECONDS
    rest_seconds: float = REST_SECONDS


class Lineup:
    """Engines with the same models; one is under load at a time.

    `goodput` has one of its own, so that what it has learnt is from its own lengths; what needs no controller
    needs theirs; whatever else is a policy of the controller shares another.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        controller: Controller,
        place: Place | None = None,
        *,
        controlled: Sequence[str] = (GOODPUT, FIXED_ENGINE),
        kind: EngineKind = vllm,
    ) -> None:
        """Waits for engines that were started. Use it in a `with` block.

        `engines`: by policy, or FIXED_ENGINE; those that are `controlled` have their names as engine IDs.
        """
        self.repeated = 0
        self._loaded: str | None = None
        self._kind = kind
        self._controller = controller
        self._place = place or Place()
        self._engines = dict(engines)
        for engine in self._engines.values():
            engine.wait_healthy()
        self._steering = {
            name: Steering(controller.introspection, controller.operations, name) for name in controlled
        }
        for steering in self._steering.values():
            steering.wait_connected()

    def add(self, policy: str, engine: Engine) -> None:
        """One more that needs no controller, once it is up."""
        engine.wait_healthy()
        self._engines[policy] = engine

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
        engine = self._engines[self._engine_of(policy)]
        with self.following(policy) as url:
            before = self._kind.read_counters(engine, self._controller)
            load = asyncio.run(
                drive(
                    url, workload, concurrency=concurrency, ramp_seconds=place.ramp_seconds, seconds=seconds
                )
            )
        mean_length = self._kind.read_counters(engine, self._controller).since(before).mean_length
        self._kind.end_requests(engine)
        return Window(load.tokens_per_second, mean_length, load.time_per_output_token)

    @contextmanager
    def following(self, policy: str) -> Iterator[str]:
        """The URL of the engine under `policy`, for load in the `with` block.

        Raises NotControlledError at its end where the engine did not follow.
        """
        name = self._engine_of(policy)
        if name != self._loaded:
            time.sleep(self._place.rest_seconds)
            self._loaded = name
        steering = self._steering.get(name)
        with nullcontext() if steering is None else steering.following(policy):
            yield self._engines[name].url

    def _engine_of(self, policy: str) -> str:
        return policy if policy in self._engines else FIXED_ENGINE

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
