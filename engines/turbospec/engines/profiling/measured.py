"""All that was measured so far: visits to cells, and the cells of a profile that they make."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from statistics import median

from turbospec.engines.profiling.plan import Load, PlannedCell
from turbospec.engines.profiling.sorting import Verdict, bucket
from turbospec.engines.profiling.statistics import LEAST_VISITS, known, spread, uncertainty
from turbospec.sidecar.profiles.profile import Cell

Visit = tuple[Cell, ...]
"""What one visit measured, a cell for each kind of step."""

# A kind of steps that was met less often is an accident of one visit.
_LEAST_STEPS = 5
_COUNTS_PER_OCTAVE = 4


class Measured:
    """Visits by planned cell; `steps` by what became of them; loads that the engine could not hold."""

    def __init__(self, cells: Sequence[PlannedCell]) -> None:
        self.planned = tuple(cells)
        self.visits: dict[PlannedCell, list[Visit]] = {cell: [] for cell in cells}
        self.steps: Counter[Verdict] = Counter()
        self.lost_steps = 0
        self.unreachable: set[Load] = set()

    def add(self, cell: PlannedCell, visit: Visit) -> None:
        """One more visit."""
        self.visits[cell].append(visit)

    def known(self, cell: PlannedCell) -> bool:
        """Whether a cell is known well enough."""
        return bool(self.visits[cell]) and known(*self._seen(cell))

    def uncertainty(self, cell: PlannedCell) -> float | None:
        """That of a cell's time, in parts of it; None where too few visits tell."""
        return uncertainty(*self._seen(cell)) if len(self.visits[cell]) >= LEAST_VISITS else None

    def _seen(self, cell: PlannedCell) -> tuple[list[float], list[float], int]:
        """Times and spreads of a cell's visits, and how many steps they had."""
        groups = [max(visit, key=lambda group: group.steps) for visit in self.visits[cell]]
        return (
            [group.seconds for group in groups],
            [group.spread_seconds for group in groups],
            sum(group.steps for group in groups),
        )

    def reachable(self, load: Load) -> bool:
        """Whether the engine can run a load, for all that is known: not where a smaller one did not fit."""
        return not any(
            small.requests <= load.requests
            and small.context <= load.context
            and small.prefill <= load.prefill
            for small in self.unreachable
        )

    def due(self, cell: PlannedCell, repeat: int) -> bool:
        """Whether a cell is to be visited in repeat number `repeat`, from 1."""
        return self.missing(cell, repeat) > 0

    def missing(self, cell: PlannedCell, repeats: int) -> int:
        """Visits that a cell still needs, at most, to have so many."""
        if self.known(cell) or not self.reachable(cell.load):
            return 0
        return max(repeats - len(self.visits[cell]), 0)

    def unvisited(self) -> list[PlannedCell]:
        """Planned cells of which nothing was measured."""
        return [cell for cell in self.planned if not self.visits[cell]]

    def cells(self) -> tuple[Cell, ...]:
        """The cells of a profile: no two about the same steps."""
        kinds: defaultdict[Hashable, list[Cell]] = defaultdict(list)
        for planned, visits in self.visits.items():
            for visit in visits:
                for group in visit:
                    tokens = bucket(group.target_tokens, _COUNTS_PER_OCTAVE)
                    kinds[planned, tokens, group.ragged].append(group)
        merged = [_merged(groups) for groups in kinds.values()]
        # Where kinds meet in their mean counts, what rests on most steps stays.
        merged.sort(key=lambda cell: cell.steps)
        unique = {cell.coordinates: cell for cell in merged if cell.steps >= _LEAST_STEPS}
        return tuple(unique[coordinates] for coordinates in sorted(unique))


def _merged(groups: Sequence[Cell]) -> Cell:
    """Mean counts, and the median of the visits' times, each for as many steps as it had.

    So a slow visit counts as one of several, and one that met a kind of step just once hardly at all.
    """
    steps = sum(group.steps for group in groups)

    def mean(name: str) -> int:
        return round(float(sum(group.steps * getattr(group, name) for group in groups)) / steps)

    locations = [group.seconds for group in groups for _ in range(group.steps)]
    requests, prefill = mean("requests"), mean("prefill_tokens")
    return Cell(
        requests=requests,
        target_tokens=max(mean("target_tokens"), requests + prefill),
        context_tokens=mean("context_tokens"),
        prefill_tokens=prefill,
        proposal_length=groups[0].proposal_length,
        ragged=groups[0].ragged,
        drafter_skipped=groups[0].drafter_skipped,
        steps=steps,
        seconds=median(locations),
        spread_seconds=max(median(group.spread_seconds for group in groups), spread(locations)),
    )
