"""Runs load that moves on a controlled engine, and records what happens."""

from __future__ import annotations

import time
from collections.abc import Callable

from turbospec.engines.bench.moving.crowd import Crowd
from turbospec.engines.bench.moving.plan import LOAD, RequestClass
from turbospec.engines.bench.moving.timeline import Phase, Sample, Timeline
from turbospec.engines.bench.moving.watching import Watch
from turbospec.engines.load import Workload, open_session

_SAMPLE_SECONDS = 0.25
_GREEDY = RequestClass("greedy", {"temperature": 0})


async def observe(
    pair: str,
    url: str,
    workload: Workload,
    introspection: str,
    engine_id: str,
    phase_seconds: float,
    on_phase: Callable[[int], None],
) -> Timeline:
    """Steps through LOAD on the engine at `url`, `phase_seconds` each; calls `on_phase` with the
    requests of each phase. `introspection` is the controller's address as a gRPC target.

    Raises LoadError where a request failed, grpc.RpcError where the controller is gone.
    """
    samples: list[Sample] = []
    phases: list[Phase] = []
    async with (
        open_session() as session,
        Watch(introspection, engine_id) as watch,
        Crowd(session, url, workload, [_GREEDY]) as crowd,
    ):
        began = last = time.perf_counter()
        received = 0
        for requests in LOAD:
            on_phase(requests)
            crowd.resize(requests)
            phase_began = time.perf_counter()
            while time.perf_counter() < phase_began + phase_seconds:
                await crowd.until(last + _SAMPLE_SECONDS)
                lengths = await watch.lengths()
                now, total = time.perf_counter(), crowd.tokens.total()
                samples.append(
                    Sample(
                        seconds=now - began,
                        requests_in_flight=len(crowd.in_flight),
                        tokens_per_second=(total - received) / (now - last),
                        mean_verification_length=lengths.mean_verification_length,
                        proposal_length=lengths.proposal_length,
                        drafter_skipped=lengths.drafter_skipped,
                        unready_requests=lengths.unready_requests,
                    )
                )
                last, received = now, total
            phases.append(Phase(phase_began - began, time.perf_counter() - began, requests))
    return Timeline(pair, samples, phases)
