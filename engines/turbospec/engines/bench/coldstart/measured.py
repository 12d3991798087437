"""All that was measured, as it comes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from turbospec.engines.bench.coldstart.plan import ARMS, FIRST, LATER, OFF, Cell, Options
from turbospec.sidecar.profiles.profile import Profile


@dataclass(frozen=True, slots=True)
class Phase:
    """What came out of one. `tokens` are those that clients received in its `seconds`.

    `mean_verification_length` and `drafter_skipped` are of the plan at its end; the length is None where that
    named no request.
    """

    steps: int
    seconds: float
    tokens: int
    mean_verification_length: float | None
    drafter_skipped: bool

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


Run = Mapping[Cell, Phase]
"""One arm's turn in one repeat."""


@dataclass(slots=True)
class Measured:
    """Runs by pair and arm, in the order of repeats.

    `profile`: what `warm` started from, the same for both pairs. `repeated`: runs that were made again,
    because the engine had not followed the policy.
    """

    options: Options
    profile: Profile | None = None
    runs: dict[str, dict[str, list[Run]]] = field(default_factory=dict)
    repeated: int = 0

    def add(self, pair: str, arm: str, run: Run) -> None:
        """One more repeat of an arm."""
        self.runs.setdefault(pair, {each: [] for each in ARMS})[arm].append(run)

    def phases(self, pair: str, arm: str, cell: Cell) -> list[Phase]:
        """Those of all repeats."""
        return [run[cell] for run in self.runs[pair][arm]]

    def speeds(self, pair: str, arm: str, cells: Sequence[Cell]) -> list[list[float]]:
        """Tokens per second: a row for each cell, a column for each repeat."""
        return [[phase.tokens_per_second for phase in self.phases(pair, arm, cell)] for cell in cells]


def cells_of(arm: str) -> tuple[Cell, ...]:
    """What an arm was measured at."""
    return FIRST if arm == OFF else (*FIRST, *LATER)
