"""The parts `varying-…`: load that goes up and down on engines under each policy, all tokens counted."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from turbospec.engines.bench.e2e.lineup import Lineup
from turbospec.engines.bench.gpu.plan import GOODPUT, NONE, STATICS, Scale
from turbospec.engines.bench.gpu.serving import Case, lineup, stage
from turbospec.engines.bench.moving.crowd import Crowd
from turbospec.engines.bench.moving.plan import RequestClass
from turbospec.engines.load import Workload, open_session

_AS_THEY_ARE = RequestClass("all", {})
_SEED = 0


def measure(case: Case, directory: Path, logs: Path, deadline: float) -> dict[str, Any]:
    """The same load under each policy, in random order; tokens per second by phase."""
    scale = case.scale
    run_seconds = len(scale.phases) * scale.phase_seconds
    found: defaultdict[str, list[list[float]]] = defaultdict(list)
    with stage(case, directory, logs) as on:
        measured, own = lineup(on, case, None)
        with measured:
            measured.answer_once()
            for policy in (*own, STATICS[-1], GOODPUT):
                for concurrency in sorted(set(scale.phases)):
                    measured.measure(policy, concurrency, scale.window_seconds, seed=_SEED)
            for repeat in range(scale.varying_repeats):
                draw = random.Random(f"varying/{repeat}")
                policies = [NONE, *STATICS, GOODPUT]
                for policy in draw.sample(policies, len(policies)):
                    if repeat and time.monotonic() + run_seconds > deadline:
                        break
                    found[policy].append(_run(measured, policy, on.place.workload, scale, repeat))
    speeds = {policy: [sum(run) / len(run) for run in runs] for policy, runs in found.items()}
    mean = {policy: sum(each) / len(each) for policy, each in speeds.items()}
    best = max(STATICS, key=lambda policy: mean[policy])
    return {
        "method": case.method,
        "agreement": case.agreement,
        "phases": [{"requests": phase, "seconds": scale.phase_seconds} for phase in scale.phases],
        "tokens_per_second_by_phase": dict(found),
        "tokens_per_second": mean,
        "best_static": best,
        "goodput_over_best_static": mean[GOODPUT] / mean[best],
        "goodput_over_none": mean[GOODPUT] / mean[NONE],
    }


def _run(measured: Lineup, policy: str, workload: Workload, scale: Scale, seed: int) -> list[float]:
    """Tokens per second of each phase; phases follow one another without a pause."""
    with measured.following(policy) as url:
        return asyncio.run(_load(url, replace(workload, seed=1 + seed), scale))


async def _load(url: str, workload: Workload, scale: Scale) -> list[float]:
    speeds = []
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session())
        crowd = await stack.enter_async_context(Crowd(session, url, workload, [_AS_THEY_ARE]))
        for requests in scale.phases:
            began, before = time.perf_counter(), crowd.tokens.total()
            crowd.resize(requests)
            await crowd.until(began + scale.phase_seconds)
            speeds.append((crowd.tokens.total() - before) / (time.perf_counter() - began))
    return speeds
