"""What a start without a profile should reach, and whether it did."""

from __future__ import annotations

from dataclasses import dataclass

from turbospec.engines.bench.coldstart.measured import Measured
from turbospec.engines.bench.coldstart.plan import COLD, FIRST, FIRST_STEPS, LATER, OFF, WARM, Cell
from turbospec.engines.bench.coldstart.scoring import Speeds, ratio, worst
from turbospec.engines.bench.e2e.scoring import Estimate

_OF_WARM_LATER = 0.95
_OF_OFF_FIRST = 0.97


@dataclass(frozen=True, slots=True)
class Ratio:
    """One arm over another. `least` None: only told, no target.

    `surely_below`: phases whose own intervals lie below `least`, of a target that no phase may miss.
    """

    name: str
    estimate: Estimate
    least: float | None = None
    surely_below: tuple[str, ...] = ()

    @property
    def met(self) -> bool | None:
        """About the estimate's value; its interval says how sure that is. None without a target."""
        return None if self.least is None else self.estimate.value >= self.least and not self.surely_below


def ratios(measured: Measured, pair: str) -> list[Ratio]:
    """Of one pair, targets first."""
    first = {arm: measured.speeds(pair, arm, FIRST) for arm in (COLD, WARM, OFF)}
    later = {arm: measured.speeds(pair, arm, LATER) for arm in (COLD, WARM)}
    return [
        Ratio(f"cold / warm after {FIRST_STEPS} steps", ratio(later[COLD], later[WARM]), _OF_WARM_LATER),
        Ratio(f"cold / off in the first {FIRST_STEPS} steps", ratio(first[COLD], first[OFF]), _OF_OFF_FIRST),
        _in_worst_phase(first[COLD], first[OFF]),
        Ratio(f"cold / warm in the first {FIRST_STEPS} steps", ratio(first[COLD], first[WARM])),
        Ratio(f"warm / off in the first {FIRST_STEPS} steps", ratio(first[WARM], first[OFF])),
    ]


def _in_worst_phase(cold: Speeds, off: Speeds) -> Ratio:
    """By the estimate that noise does not lower, and by every phase alone.

    With few repeats the first may choose phases that are worst in one half of them only, and then it misses
    one that is below in all.
    """
    lowest, (odd, even) = worst(cold, off)
    alone = [ratio(cold[i : i + 1], off[i : i + 1]) for i in range(len(FIRST))]
    below = tuple(
        in_words(cell) for cell, each in zip(FIRST, alone, strict=True) if each.high < _OF_OFF_FIRST
    )
    name = f"the same in its worst phase ({_named(odd, even)})"
    if below:
        name += f"; below, whatever the noise: {', '.join(below)}"
    return Ratio(name, lowest, _OF_OFF_FIRST, below)


def in_words(cell: Cell) -> str:
    """Such as `32 at once, visit 1`."""
    return f"{cell.requests} at once, visit {cell.visit}"


def _named(odd: int, even: int) -> str:
    """The phase that was worst in the odd repeats, and in the even ones."""
    names = [in_words(FIRST[index]) for index in (odd, even)]
    return names[0] if odd == even else " / ".join(names)
