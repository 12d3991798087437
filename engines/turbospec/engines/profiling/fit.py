"""How well the cost model describes what was measured: it predicts cells that it was not fitted to."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from turbospec.sidecar.core.cost_cells import shape_of
from turbospec.sidecar.core.latency import LatencyModel
from turbospec.sidecar.core.types import Capabilities
from turbospec.sidecar.profiles.profile import Cell
from turbospec.sidecar.server.profile_keeping import as_cost

FOLDS = 5
MEDIAN_GOAL, P95_GOAL = 0.05, 0.15
"""What a cost model should keep to against cells it has not seen, in the median and at 95%."""
_SEED = "folds"

Mode = tuple[int, bool]
"""Proposal length, and whether the drafter was skipped."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A cell and what the model said of it that was fitted to others. `extrapolated`: outside of these."""

    cell: Cell
    predicted_seconds: float
    extrapolated: bool

    @property
    def error(self) -> float:
        """(predicted - measured) / measured."""
        return self.predicted_seconds / self.cell.seconds - 1.0


@dataclass(frozen=True, slots=True)
class Region:
    """Errors over some of the cells: |error| in the median and at the 95th percentile."""

    name: str
    cells: int
    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """How far measurement of decode steps reaches; beyond that the model extrapolates. `engine_...`: how far
    the engine does.

    Contexts are per request. `prompt_tokens`: most that were measured beside decoding; 0: none.
    """

    requests: int
    engine_requests: int
    target_tokens: int
    engine_target_tokens: int
    context: int
    engine_context: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class FitReport:
    """Held-out predictions of all cells."""

    held_out: tuple[HeldOut, ...]
    regions: tuple[Region, ...]
    coverage: Coverage

    @property
    def overall(self) -> Region | None:
        """All cells; None where there are too few to hold any out."""
        return self.regions[0] if self.regions else None


def fit(cells: Sequence[Cell], engine: Capabilities) -> LatencyModel:
    """The cost model that a controller starts from with these cells.

    They are at least one, and all of decode steps, or all of steps with prompts beside decoding.
    """
    model = LatencyModel(engine, mixed=bool(cells[0].prefill_tokens))
    model.seed([as_cost(cell) for cell in cells], same_engine=True)
    return model


def predict(model: LatencyModel, cell: Cell) -> float:
    """Seconds of a cell's steps, with their prompts."""
    cost = as_cost(cell)
    if model.mixed:
        return model.expected_seconds(cost.target_tokens, shape_of(cost))
    return float(model.step_seconds(np.array([float(cost.target_tokens)]), shape_of(cost))[0])


def evaluate(cells: Sequence[Cell], engine: Capabilities, max_context: int) -> FitReport:
    """Fits a model to some of the cells, predicts the others, until each was held out once.

    Cells of steps with prompts have a model of their own, as the controller has.
    """
    decode = [cell for cell in cells if not cell.prefill_tokens]
    mixed = [cell for cell in cells if cell.prefill_tokens]
    held_out = [*_hold_out(decode, engine), *_hold_out(mixed, engine)]
    held_out.sort(key=lambda each: each.cell.coordinates)
    return FitReport(
        tuple(held_out), tuple(_regions(held_out)), _coverage(decode, mixed, engine, max_context)
    )


def _hold_out(cells: Sequence[Cell], engine: Capabilities) -> Iterator[HeldOut]:
    for others, fold in _folds(cells):
        model = fit(others, engine)
        for cell in fold:
            yield HeldOut(cell, predict(model, cell), _outside(cell, others))


def _folds(cells: Sequence[Cell]) -> list[tuple[list[Cell], list[Cell]]]:
    """Each fold after the cells outside of it; with fewer cells than folds each is one of its own."""
    shuffled = random.Random(_SEED).sample(cells, len(cells))
    count = min(FOLDS, len(shuffled))
    if count < 2:
        return []
    folds = [shuffled[i::count] for i in range(count)]
    return [
        ([cell for j, other in enumerate(folds) if j != i for cell in other], fold)
        for i, fold in enumerate(folds)
    ]


def _outside(cell: Cell, others: Sequence[Cell]) -> bool:
    """Whether a cell is beyond the others in any direction, or at a length that none of them has."""
    alike = [other for other in others if mode_of(other) == mode_of(cell)]
    return not alike or any(
        not min(map(measure, alike)) <= measure(cell) <= max(map(measure, alike))
        for measure in (_requests, _tokens, _context, _prompt_tokens)
    )


def _regions(held_out: Sequence[HeldOut]) -> list[Region]:
    by_name: defaultdict[str, list[float]] = defaultdict(list)
    for each in held_out:
        cell, error = each.cell, abs(each.error)
        by_name["all"].append(error)
        by_name["extrapolated" if each.extrapolated else "inside"].append(error)
        by_name[f"{cell.requests:>5} request{'s' if cell.requests > 1 else ''}"].append(error)
        by_name["off" if cell.drafter_skipped else f"length {cell.proposal_length:>2}"].append(error)
        if cell.ragged:
            by_name["ragged"].append(error)
        if cell.prefill_tokens:
            by_name["with prompts"].append(error)
    order = {"all": 0, "inside": 1, "extrapolated": 2, "off": 4, "ragged": 6, "with prompts": 7}

    def place(name: str) -> tuple[int, str]:
        return order.get(name, 3 if "request" in name else 5), name

    return [
        Region(" ".join(name.split()), len(errors), *np.percentile(errors, [50, 95]).tolist())
        for name, errors in sorted(by_name.items(), key=lambda item: place(item[0]))
    ]


def _coverage(
    decode: Sequence[Cell], mixed: Sequence[Cell], engine: Capabilities, max_context: int
) -> Coverage:
    return Coverage(
        requests=max(map(_requests, decode), default=0),
        engine_requests=engine.max_batch,
        target_tokens=max(map(_tokens, decode), default=0),
        engine_target_tokens=engine.max_batch * (1 + engine.max_length),
        context=round(max(map(_context, decode), default=0)),
        engine_context=max_context,
        prompt_tokens=max(map(_prompt_tokens, mixed), default=0),
    )


def mode_of(cell: Cell) -> Mode:
    """How the engine drafted in a cell's steps."""
    return cell.proposal_length, cell.drafter_skipped


def _requests(cell: Cell) -> int:
    return cell.requests


def _tokens(cell: Cell) -> int:
    return cell.target_tokens - cell.prefill_tokens


def _prompt_tokens(cell: Cell) -> int:
    return cell.prefill_tokens


def _context(cell: Cell) -> float:
    return cell.context_tokens / cell.requests
