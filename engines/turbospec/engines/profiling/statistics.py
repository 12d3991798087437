"""Robust numbers: noise of step times is one-sided, and whole visits can be slow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

LEAST_VISITS = 3
"""Before that many visits it cannot be told which of them was disturbed."""
KNOWN_WITHIN = 0.01
"""A cell is known well enough when its location is uncertain by at most this part of it."""

# Standard deviation of normal noise over its median absolute deviation, and standard error of a median
# over that of a mean.
_NORMAL_DEVIATIONS = 1.483
_MEDIAN_ERROR = 1.253


def spread(values: Sequence[float]) -> float:
    """Median absolute deviation from the median."""
    middle = median(values)
    return median(abs(value - middle) for value in values)


def uncertainty(locations: Sequence[float], spreads: Sequence[float], steps: int) -> float:
    """Standard error of the median of `locations`, one for each visit, in parts of it.

    The larger of two: what visits tell by differing from each other, and what steps within visits tell, whose
    spreads are `spreads` and of which there are `steps` in all.
    """
    between = spread(locations) / math.sqrt(len(locations))
    within = median(spreads) / math.sqrt(steps)
    return _MEDIAN_ERROR * _NORMAL_DEVIATIONS * max(between, within) / median(locations)


def known(locations: Sequence[float], spreads: Sequence[float], steps: int) -> bool:
    """Whether a cell need not be visited again."""
    return len(locations) >= LEAST_VISITS and uncertainty(locations, spreads, steps) <= KNOWN_WITHIN
