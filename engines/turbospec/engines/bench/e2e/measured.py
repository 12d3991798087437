"""All that was measured, as it comes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from turbospec.engines.bench.e2e.lineup import Window
from turbospec.engines.bench.e2e.schedule import Options
from turbospec.engines.bench.e2e.scoring import Cell


@dataclass(frozen=True, slots=True)
class Calibration:
    """A pair's table for vLLM, and what it was chosen by: tokens per second by concurrency and length."""

    entries: Sequence[tuple[int, int, int]]
    tokens_per_second: Mapping[int, Mapping[int, float]]


@dataclass(slots=True)
class Measured:
    """Windows by cell and policy, in the order of repeats."""

    options: Options
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    windows: dict[Cell, dict[str, list[Window]]] = field(default_factory=dict)
    repeated: int = 0
    """Windows that were measured again, because the engine had not followed the policy."""

    def add(self, pair: str, concurrency: int, policy: str, window: Window) -> None:
        """One more repeat."""
        self.windows.setdefault((pair, concurrency), {}).setdefault(policy, []).append(window)

    def newest(self, pair: str, concurrency: int) -> str:
        """The last repeat of a cell in a line: every policy's tokens per second."""
        windows = self.windows[pair, concurrency]
        return ", ".join(
            f"{policy} {windows[policy][-1].tokens_per_second:.0f}" for policy in self.options.policies
        )

    @property
    def cells(self) -> list[Cell]:
        """In the order of pairs and concurrencies."""
        return [(pair, n) for pair in self.options.pairs for n in sorted(self.options.concurrencies)]

    def speeds(self) -> dict[Cell, dict[str, list[float]]]:
        """Tokens per second by cell and policy, one per repeat."""
        return {
            cell: {
                policy: [window.tokens_per_second for window in self.windows[cell][policy]]
                for policy in self.options.policies
            }
            for cell in self.cells
        }

    def mean_length(self, cell: Cell, policy: str) -> float:
        """Drafts verified per request and step, mean over the repeats."""
        windows = self.windows[cell][policy]
        return sum(window.mean_length or 0.0 for window in windows) / len(windows)
