"""The engine of a pair, under controllers that know nothing or start from a profile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from turbospec.engines.bench.coldstart.measured import Run
from turbospec.engines.bench.coldstart.phases import run_phases
from turbospec.engines.bench.coldstart.plan import (
    COLD,
    LOADS,
    LONGEST_LENGTH,
    OFF,
    OUTPUT_TOKENS,
    POLICIES,
    PROMPT_TOKENS,
    WARM,
    WARM_UP_SECONDS,
    Repeat,
)
from turbospec.engines.bench.moving.watching import Watch
from turbospec.engines.load import Workload, drive
from turbospec.engines.models import SHAPES, MadeModels
from turbospec.engines.processes import Children
from turbospec.engines.stage import vllm
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.engines import MODEL_NAME
from turbospec.engines.stage.steering import NotControlledError, Steering

ENGINE_ID = "cold-start"
_ATTEMPTS = 3
_SEEDS_PER_REPEAT = 100  # phases of a repeat have prompts of their own, equal ones for all arms


class ColdStartEngine:
    """One engine, and one controller after the other."""

    def __init__(
        self, children: Children, models: MadeModels, controller: Controller, profiles: Path
    ) -> None:
        """Starts them and waits for the engine. `profiles`: the directory that `warm` starts from."""
        self.repeated = 0
        self.controller = controller
        self._children = children
        self._profiles = profiles
        self._workload = Workload(MODEL_NAME, SHAPES["demo"].vocabulary, PROMPT_TOKENS, OUTPUT_TOKENS)
        self._serving = controller.start(children)
        self._engine = vllm.start_controlled(children, ENGINE_ID, models, controller, longest=LONGEST_LENGTH)
        self._engine.wait_healthy()
        with self._steering() as steering:
            steering.wait_connected()

    @property
    def url(self) -> str:
        """Its OpenAI endpoint without /v1."""
        return self._engine.url

    def warm_up(self) -> None:
        """First steps of each batch size allocate memory and choose kernels."""
        with self._steering() as steering:
            for policy in (f"static:{LONGEST_LENGTH}", "off"):
                steering.set_policy(policy)
                for n in LOADS:
                    load = drive(
                        self.url, self._workload, concurrency=n, ramp_seconds=0.0, seconds=WARM_UP_SECONDS
                    )
                    asyncio.run(load)

    def measure(self, arm: str, repeat: Repeat) -> Run:
        """One arm's turn: `cold` and `warm` under a controller that has just started.

        A hiccup of the machine can make a plan expire; then it is made again, and counted in `repeated`.
        Raises LoadError where a request failed, NotControlledError where the engine did not follow the policy
        at any attempt.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._measure_once(arm, repeat)
            except NotControlledError:
                self.repeated += 1
        return self._measure_once(arm, repeat)

    def _measure_once(self, arm: str, repeat: Repeat) -> Run:
        if arm != OFF:
            self._serving.stop()
            self._serving = self.controller.start(
                self._children,
                self._profiles if arm == WARM else None,
                name=f"controller-{arm}-{repeat.number}",
            )
        with self._steering() as steering:
            steering.wait_connected()
            if arm != OFF and steering.knows_costs() != (arm == WARM):
                raise NotControlledError(
                    f"the controller of {arm!r} has started {'with' if arm == COLD else 'without'} a profile"
                )
            with steering.following(POLICIES[arm]):
                return asyncio.run(self._load(repeat, arm))

    async def _load(self, repeat: Repeat, arm: str) -> Run:
        workload = replace(self._workload, seed=_SEEDS_PER_REPEAT * repeat.number)
        async with Watch(self.controller.introspection, ENGINE_ID) as watch:
            return await run_phases(self.url, workload, watch, repeat.cells(arm))

    def _steering(self) -> Steering:
        # A channel to a controller that has ended would wait before it tries the next one.
        return Steering(self.controller.introspection, self.controller.operations, ENGINE_ID)
