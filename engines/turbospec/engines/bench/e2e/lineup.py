"""The engines of the benchmark, and measuring one policy on the one that it runs on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
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
from turbospec.engines.load import Workload, drive
from turbospec.engines.models import SHAPES, MadeModels
from turbospec.engines.processes import Children
from turbospec.engines.stage import counters, engines
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.steering import NotControlledError, Steering

_FIXED = "fixed"
_CONNECT_SECONDS = 10.0
_ATTEMPTS = 3
# On a CPU a prompt's token costs as much as one decoded: with long prompts the ramp would be all prefill.
_PROMPT_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Window:
    """What came out of one. `mean_length` is drafts verified per request and step, None where none was."""

    tokens_per_second: float
    mean_length: float | None


class Lineup:
    """Four engines with the same models; one is under load at a time.

    `goodput` has one of its own, so that what it has learnt is from its own lengths; `none` and `table`
    need theirs; whatever else is a policy of the controller shares the fourth.
    """

    def __init__(self, children: Children, models: MadeModels, controller: Controller) -> None:
        """Starts all but the one for `table`, and waits for them. Use it in a `with` block."""
        self.repeated = 0
        self._loaded: str | None = None
        self._children = children
        self._models = models
        self._workload = Workload(engines.MODEL_NAME, SHAPES["demo"].vocabulary, prompt_tokens=_PROMPT_TOKENS)
        self._engines = {
            name: engines.start_controlled(children, name, models, controller, longest=LONGEST_LENGTH)
            for name in (GOODPUT, _FIXED)
        }
        self._engines[NONE] = engines.start_without_speculation(children, NONE, models)
        for engine in self._engines.values():
            engine.wait_healthy()
        self._steering = {
            name: Steering(controller.introspection, controller.operations, name)
            for name in (GOODPUT, _FIXED)
        }
        for steering in self._steering.values():
            steering.wait_connected(_CONNECT_SECONDS)

    def start_table(self, entries: Sequence[tuple[int, int, int]]) -> None:
        """Starts the engine that follows vLLM's own table, and waits for it."""
        engine = engines.start_with_table(
            self._children, TABLE, self._models, entries, longest=LONGEST_LENGTH
        )
        self._engines[TABLE] = engine
        engine.wait_healthy()

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
        name = policy if policy in self._engines else _FIXED
        if name != self._loaded:
            time.sleep(REST_SECONDS)
            self._loaded = name
        url, steering = self._engines[name].url, self._steering.get(name)
        workload = replace(self._workload, seed=seed)
        with nullcontext() if steering is None else steering.following(policy):
            before = counters.read(url)
            load = asyncio.run(
                drive(url, workload, concurrency=concurrency, ramp_seconds=RAMP_SECONDS, seconds=seconds)
            )
        return Window(load.tokens_per_second, counters.read(url).since(before).mean_length)

    def __enter__(self) -> Lineup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for steering in self._steering.values():
                stack.push(steering)
