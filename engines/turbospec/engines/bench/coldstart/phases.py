"""The load: phases one after the other, each until the engine has made so many steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from turbospec.engines.bench.coldstart.measured import Phase, Run
from turbospec.engines.bench.coldstart.plan import PHASE_STEPS, Cell
from turbospec.engines.bench.moving.crowd import Crowd
from turbospec.engines.bench.moving.plan import RequestClass
from turbospec.engines.bench.moving.watching import Lengths
from turbospec.engines.load import LoadError, Workload, open_session
from turbospec.engines.stage.steering import NotControlledError

_GREEDY = RequestClass("greedy", {"temperature": 0})
# Often enough that a phase is not many steps longer than it should be, seldom enough to cost next to nothing.
_POLL_SECONDS = 0.1
# The steps of a phase take ten seconds at most.
_PATIENCE_SECONDS = 60.0


class Watch(Protocol):
    """The controller's view of the engine."""

    async def steps(self) -> int:
        """Steps that the engine has reported."""

    async def lengths(self) -> Lengths:
        """Those of the newest plan."""


async def run_phases(url: str, workload: Workload, watch: Watch, cells: Sequence[Cell]) -> Run:
    """Runs the phases on the engine at `url`, each with requests of its own.

    Raises LoadError where a request failed or none got a token, NotControlledError where the engine
    reports no steps.
    """
    found: dict[Cell, Phase] = {}
    async with open_session() as session:
        steps = began_at = await watch.steps()
        for index, cell in enumerate(cells):
            own = replace(workload, seed=workload.seed + index)
            # Together they have the steps that were asked for: what one has too many, the next one lacks.
            until = max(began_at + (index + 1) * PHASE_STEPS, steps + PHASE_STEPS // 2)
            async with Crowd(session, url, own, [_GREEDY]) as crowd:
                began, before = time.perf_counter(), steps
                crowd.resize(cell.requests)
                while steps < until:
                    if time.perf_counter() > began + _PATIENCE_SECONDS:
                        raise NotControlledError(
                            f"the engine at {url} has reported {steps - before} of {until - before} steps "
                            f"within {_PATIENCE_SECONDS:.0f} s"
                        )
                    await crowd.until(time.perf_counter() + _POLL_SECONDS)
                    steps = await watch.steps()
                seconds, tokens = time.perf_counter() - began, crowd.tokens.total()
                lengths = await watch.lengths()
            if not tokens:
                raise LoadError(f"{url}: no token came in a phase of {steps - before} steps")
            found[cell] = Phase(
                steps - before, seconds, tokens, lengths.mean_verification_length, lengths.drafter_skipped
            )
    return found
