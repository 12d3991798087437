"""How fast the machine is now, apart from what its steps are made of.

Machines change speed, for a second (a neighbour on the same host) or for good (clocks, temperature), and
lengths are not used side by side: without telling the two apart, a length that was tried in a slow second
looks costly for long. So each step is held against its prediction, and the interquartile mean of the ratios
around it is the speed of its moment: like a median it passes over outliers and keeps edges, and it moves
less when one ratio more or less lies on one side.
"""

from __future__ import annotations

from collections import deque
from statistics import median

# Steps around a moment, before and after it. A tenfold outlier moves the factor by less than 1% where steps
# vary by 5%, and a shift of speed is followed after half of it.
WINDOW = 24
# Newest ratios of which the usual error is taken.
ERRORS = 64


class MachineSpeed:
    """A factor on step times, followed step by step."""

    def __init__(self) -> None:
        self.factor = 1.0
        """How many times as long steps take as when their costs were learned."""
        self._ratios: deque[float] = deque(maxlen=WINDOW)
        self._errors: deque[float] = deque(maxlen=ERRORS)

    def observe(self, ratio: float) -> None:
        """Takes a step's measured time over what was predicted for a factor of 1, both above 0."""
        self._errors.append(abs(ratio / self.factor - 1.0))
        self._ratios.append(ratio)
        if len(self._ratios) == WINDOW:
            middle = sorted(self._ratios)[WINDOW // 4 : -WINDOW // 4]
            self.factor = sum(middle) / len(middle)

    @property
    def usual_error(self) -> float:
        """Median of |measured / predicted - 1| over recent steps; 0 until there are some."""
        # numpy's median costs ten times as much on so few.
        return median(self._errors) if len(self._errors) > 4 else 0.0
