"""What the demonstration measures, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from turbospec.engines.load import LoadResult
from turbospec.engines.stage.counters import Counters

NONE = "none"
"""Not a policy: the engine that was started without speculation."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One policy at one concurrency.

    `mean_length` is draft tokens verified per request and decode step; `acceptance_ratio` is accepted
    over verified. Both are from the engine's counters, None where nothing was verified. Times are
    medians in seconds, None where no request began or ended within the window.
    """

    concurrency: int
    policy: str
    tokens_per_second: float
    measured_seconds: float
    tokens: int
    completed_requests: int
    time_to_first_token_seconds: float | None
    time_per_output_token_seconds: float | None
    mean_length: float | None
    acceptance_ratio: float | None


def cell(concurrency: int, policy: str, load: LoadResult, counted: Counters) -> Cell:
    """Joins what users saw with what the engine counted meanwhile."""
    return Cell(
        concurrency=concurrency,
        policy=policy,
        tokens_per_second=load.tokens_per_second,
        measured_seconds=load.seconds,
        tokens=load.tokens,
        completed_requests=load.completed_requests,
        time_to_first_token_seconds=load.time_to_first_token,
        time_per_output_token_seconds=load.time_per_output_token,
        mean_length=counted.mean_length,
        acceptance_ratio=counted.acceptance_ratio,
    )


@dataclass(frozen=True, slots=True)
class Results:
    """All cells, and relations between them."""

    cells: Sequence[Cell]

    @property
    def concurrencies(self) -> list[int]:
        return sorted({cell.concurrency for cell in self.cells})

    def at(self, concurrency: int, policy: str) -> Cell:
        """The cell of one policy at one concurrency. Raises KeyError where it was not measured."""
        for candidate in self.cells:
            if (candidate.concurrency, candidate.policy) == (concurrency, policy):
                return candidate
        raise KeyError((concurrency, policy))

    def relative(self, cell: Cell) -> float:
        """Its tokens per second over those of the engine without speculation at the same concurrency."""
        return cell.tokens_per_second / self.at(cell.concurrency, NONE).tokens_per_second

    def as_json(self) -> list[dict[str, object]]:
        """The cells as plain data, each with `relative_to_none`."""
        return [asdict(cell) | {"relative_to_none": self.relative(cell)} for cell in self.cells]
