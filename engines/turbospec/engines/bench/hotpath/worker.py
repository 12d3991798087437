"""Measures one stage on one engine, in that engine's process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol, TypeVar

from turbospec.engines.bench.hotpath.engine import pin
from turbospec.engines.bench.hotpath.hooks import PlanAge, Watch
from turbospec.engines.bench.hotpath.measured import Block, CellTimes, StageTimes
from turbospec.engines.bench.hotpath.plan import (
    ADAPTER_POLICY,
    BLOCKS,
    DILATION_POLICY,
    SIDECAR_POLICY,
    UNPINNED_BLOCKS,
    WARM_STEPS,
    Cell,
    Stage,
)
from turbospec.engines.stage.steering import Steering

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """`stage`: index of the stage. `sidecar`: its process id. `cores`: the engine's, the sidecar's; None
    where the engine's computing is elsewhere, so that they need none of their own."""

    stage: int
    models: str
    engine_id: str
    introspection: str
    operations: str
    sidecar: int
    cores: tuple[int, int] | None
    output: str


class Engine(Protocol):
    """A real engine in this process that is stepped by hand, with the adapter and the real sidecar."""

    @property
    def control(self) -> Any:
        """The adapter's EngineControl."""

    def inside(self, work: Callable[[], T]) -> T:
        """Does `work`; within it, and only there, steps may be run and the adapter is there."""

    def hooks(self) -> Watch:
        """Watches the adapter's hooks."""

    def switches(self) -> Watch:
        """Watches what the engine does only where a step's length is another than the last one's."""

    def set_adapter(self, present: bool) -> None:
        """Puts the adapter in, or the engine's own methods back; only while nothing runs."""

    def fill(self, requests: int) -> None:
        """Starts requests and computes their prompts; each time the same ones."""

    def step(self) -> float:
        """Runs one step; seconds that it took."""

    def tokens(self) -> int:
        """Produced so far by the live requests."""

    def clear(self) -> None:
        """Aborts all requests."""


class Worker:
    """One stage on one engine."""

    def __init__(self, settings: Settings, stage: Stage, make_engine: Callable[[], Engine]) -> None:
        self._settings = settings
        self._stage = stage
        self._pin(apart=True)
        self._engine = make_engine()
        self._pin(apart=True)  # threads that were started unbound
        self._steering = Steering(settings.introspection, settings.operations, settings.engine_id)

    def measure(self) -> StageTimes:
        """All cells."""
        return self._engine.inside(self._cells)

    def _cells(self) -> StageTimes:
        times = StageTimes(self._stage.size)
        with self._steering:
            self._steering.wait_connected()
            for cell in self._stage.cells:
                _say(f"{cell.requests} requests")
                found = CellTimes(cell.requests)
                times.cells.append(found)
                for policy in (SIDECAR_POLICY, ADAPTER_POLICY):
                    times.clock_ns = self._watch(cell, policy, found)
                if cell.dilation:
                    self._steering.set_policy(DILATION_POLICY)
                    self._alternate(cell, BLOCKS, found.pinned)
                    if self._settings.cores is None:
                        continue
                    self._pin(apart=False)
                    self._alternate(cell, UNPINNED_BLOCKS, found.unpinned)
                    self._pin(apart=True)
        return times

    def _watch(self, cell: Cell, policy: str, found: CellTimes) -> float:
        """Adds what steps under `policy` show; what the watch costs per hook, in nanoseconds."""
        self._steering.set_policy(policy)
        spent: list[float] = []
        switched: list[float] = []
        found.adapter_ns[policy], found.switch_ns[policy] = spent, switched
        age = PlanAge(self._engine.control)
        watch, switches = self._engine.hooks(), self._engine.switches()
        while len(spent) < cell.steps:
            self._fill(cell)
            with watch, switches:
                for _ in range(min(self._stage.block_steps, cell.steps - len(spent))):
                    watch.start()
                    switches.start()
                    seconds = self._engine.step()
                    spent.append(watch.spent_ns())
                    if policy == SIDECAR_POLICY:
                        found.plan_ages.append(age.steps())
                        found.step_seconds.append(seconds)
                    if nanoseconds := switches.spent_ns():
                        switched.append(nanoseconds)
            self._engine.clear()
        self._steering.check_controlled(policy)
        return watch.clock_ns

    def _alternate(self, cell: Cell, blocks: int, found: list[Block]) -> None:
        for pair in range(blocks // 2):
            # Drift of the machine's speed counts once for one side and once for the other.
            for adapter in (True, False) if pair % 2 else (False, True):
                self._engine.set_adapter(adapter)
                found.append(self._block(cell, adapter))
        self._engine.set_adapter(True)

    def _block(self, cell: Cell, adapter: bool) -> Block:
        self._fill(cell)
        before = self._engine.tokens()
        seconds = [self._engine.step() for _ in range(self._stage.block_steps)]
        tokens = self._engine.tokens() - before
        self._engine.clear()
        return Block(adapter, sum(seconds) / len(seconds), median(seconds), tokens)

    def _fill(self, cell: Cell) -> None:
        self._engine.fill(cell.requests)
        for _ in range(WARM_STEPS):
            self._engine.step()

    def _pin(self, *, apart: bool) -> None:
        """The engine on one core and the sidecar on the other, or both wherever the kernel likes."""
        if self._settings.cores is None:
            return
        engine, sidecar = self._settings.cores
        both = {engine, sidecar}
        pin(os.getpid(), {engine} if apart else both)
        pin(self._settings.sidecar, {sidecar} if apart else both)


def _say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()
