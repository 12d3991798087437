"""What is measured, as the processes that measure it pass it on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Block:
    """One block of steps. `tokens` that it produced tell whether two blocks did the same work."""

    adapter: bool
    seconds_per_step: float
    median_step_seconds: float
    tokens: int


@dataclass(slots=True)
class CellTimes:
    """One cell. `adapter_ns`: by policy, one entry per step. `plan_ages`: steps, None without a plan.

    `switch_ns`: by policy, of the steps in which the engine had to switch to another length.
    """

    requests: int
    adapter_ns: dict[str, list[float]] = field(default_factory=dict)
    switch_ns: dict[str, list[float]] = field(default_factory=dict)
    plan_ages: list[int | None] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    pinned: list[Block] = field(default_factory=list)
    unpinned: list[Block] = field(default_factory=list)


@dataclass(slots=True)
class StageTimes:
    """One stage. `clock_ns`: what the watch itself costs per hook, already taken off."""

    size: str
    clock_ns: float = 0.0
    cells: list[CellTimes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PlanTime:
    """What the sidecar needed for one plan. `reason`: the plan's, by its name in the protocol."""

    requests: int
    reason: str
    nanoseconds: int


def read_stage(file: Path) -> StageTimes:
    """What a worker wrote."""
    data = json.loads(file.read_text())
    cells = [
        CellTimes(**{**cell, **{name: [Block(**b) for b in cell[name]] for name in ("pinned", "unpinned")}})
        for cell in data.pop("cells")
    ]
    return StageTimes(**data, cells=cells)


def read_plan_times(file: Path) -> list[PlanTime]:
    """What the sidecar wrote."""
    return [PlanTime(*json.loads(line)) for line in file.read_text().splitlines()]
