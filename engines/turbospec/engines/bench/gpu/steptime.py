"""The parts `step-time-…`: what a step takes, by requests, context, length, and whether widths differ.

Requests of one context run while every length is visited, in random order; then the next load. The pair
agrees next to never, so that contexts hardly grow meanwhile: what a step takes does not depend on what is
accepted.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import StepRecord
from turbospec.adapters.version import __version__
from turbospec.engines.bench.gpu.fitting import fit_errors
from turbospec.engines.bench.gpu.inprocess import ForcedEngine
from turbospec.engines.bench.gpu.plan import STEP_LENGTH, Scale
from turbospec.engines.bench.gpu.worker import Settings
from turbospec.engines.profiling.measured import Measured
from turbospec.engines.profiling.plan import Load, Mode, PlannedCell
from turbospec.engines.profiling.statistics import spread
from turbospec.sidecar.profiles import document
from turbospec.sidecar.profiles.key import ProfileKey
from turbospec.sidecar.profiles.profile import Cell, Profile, Source

# After a change of length: two steps at most are still of the one before, and first ones choose kernels.
_SPARE_STEPS = 4
_MOST_TRIES = 4
_EPS = 1.0
_RAGGED_LENGTHS = (2, 4, STEP_LENGTH)
_LOAD_SECONDS = 25.0  # the longest on an H200 by its compute: the prompts, and twelve visits of 60 ms a step


def measure(settings: Settings) -> dict[str, Any]:
    """Visits every cell until each has enough visits, or time is up; writes the profile beside the output."""
    scale, asynchronous = settings.sizes, bool(settings.options["asynchronous"])
    longest = max(scale.step_requests)
    lengths = range(STEP_LENGTH + 1)
    room = (len(lengths) + len(_RAGGED_LENGTHS)) * _MOST_TRIES * (scale.visit_steps + _SPARE_STEPS)
    engine = ForcedEngine(
        scale,
        Path(settings.models),
        settings.pair,
        _EPS,
        requests=max(map(max, scale.step_requests.values())),
        context=longest + room,
        length=STEP_LENGTH,
        asynchronous=asynchronous,
    )
    loads = possible_loads(scale, engine.kv_tokens)
    measured = Measured([cell for load in loads for cell in cells_of(load)])
    _warm_up(engine, loads)
    repeats = 0
    for repeat in range(scale.step_repeats):
        draw = random.Random(f"{settings.pair}/{repeat}")
        for requests, context in draw.sample(loads, len(loads)):
            if time.monotonic() + _LOAD_SECONDS > settings.deadline:
                break
            engine.forced.set(0)
            engine.fill(requests, context)
            planned = cells_of((requests, context))
            for cell in draw.sample(planned, len(planned)):
                if visit := _visit(engine, cell, scale.visit_steps):
                    measured.add(cell, (visit,))
            engine.clear()
        else:
            repeats += 1
            continue
        break
    cells = measured.cells()
    profile = Profile(named(engine.key), datetime.now(UTC), __version__, Source.SWEEP, cells)
    Path(settings.options["profile"]).write_bytes(document.dumps(profile))
    return {
        "asynchronous": engine._core.batch_queue is not None,
        "repeats": repeats,
        "cells": len(cells),
        "planned_cells": len(measured.planned),
        "unvisited": [f"{cell.load}, {cell.mode}" for cell in measured.unvisited()],
        "start_seconds": round(engine.start_seconds, 1),
        "kv_tokens": engine.kv_tokens,
        "graph_sizes": list(engine.hello.capabilities.graph_sizes),
        "max_context": engine.hello.identity.max_context,
        "fit": fit_errors(cells, engine.hello.capabilities, engine.hello.identity.max_context),
    }


def named(key: ProfileKey) -> ProfileKey:
    """The key with the made models' names: their directories are of the machine that measured."""
    return replace(key, model=Path(key.model).name, draft_model=Path(key.draft_model).name)


def possible_loads(scale: Scale, kv_tokens: int) -> list[tuple[int, int]]:
    """(requests, context) that are measured: those whose contexts the KV cache holds, with some room."""
    most = min(scale.step_context_tokens, int(0.8 * kv_tokens))
    return [
        (requests, context)
        for context, batches in scale.step_requests.items()
        for requests in batches
        if requests * context <= most
    ]


def cells_of(load: tuple[int, int]) -> list[PlannedCell]:
    """Every length of a load; some of them also with every second request one draft shorter."""
    requests, context = load
    cells = [PlannedCell(Load(requests, context), Mode(length)) for length in range(STEP_LENGTH + 1)]
    if requests > 1:
        ragged = Load(requests, context, ragged=True)
        cells += [PlannedCell(ragged, Mode(length)) for length in _RAGGED_LENGTHS]
    return cells


def _warm_up(engine: ForcedEngine, loads: Sequence[tuple[int, int]]) -> None:
    """Every batch size once at every length: first steps allocate and choose kernels."""
    shortest = min(context for _, context in loads)
    for requests in sorted({requests for requests, _ in loads}):
        engine.forced.set(0)
        engine.fill(requests, shortest)
        for length in range(STEP_LENGTH + 1):
            engine.forced.set(length)
            engine.run(_SPARE_STEPS)
        engine.clear()


def _visit(engine: ForcedEngine, cell: PlannedCell, steps: int) -> Cell | None:
    """So many steps as planned, as a cell; None where they did not come."""
    shorter = engine.request_ids()[::2] if cell.load.ragged else []
    plan = engine.forced.set(cell.mode.length, shorter)
    engine.run(_SPARE_STEPS)
    kept: list[StepRecord] = []
    for _ in range(_MOST_TRIES):
        kept += [record for record in engine.run(steps - len(kept)) if as_planned(record, plan, cell)]
        if len(kept) >= steps:
            return as_cell(kept, cell)
    return None


def as_planned(record: StepRecord, plan: AppliedPlan, cell: PlannedCell) -> bool:
    """Whether a step ran under `plan`, undisturbed, with every request and all of its drafts."""
    if record.plan is not plan or record.disturbances or record.requests != cell.load.requests:
        return False
    wanted = [plan.verification_length(request_id) for request_id in record.request_ids]
    return len(wanted) == cell.load.requests and record.verified == wanted


def as_cell(records: Sequence[StepRecord], cell: PlannedCell) -> Cell:
    """The profile's cell of equal steps."""
    seconds = [1e-9 * record.duration_ns for record in records]
    return Cell(
        requests=cell.load.requests,
        target_tokens=cell.load.requests + sum(records[0].verified),
        context_tokens=round(sum(sum(record.context_tokens) for record in records) / len(records)),
        prefill_tokens=0,
        proposal_length=cell.mode.length,
        ragged=cell.load.ragged,
        drafter_skipped=False,
        steps=len(records),
        seconds=median(seconds),
        spread_seconds=spread(seconds),
    )
