"""The entries of vLLM's own table of lengths: the best fixed length at each concurrency, measured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping

_FINALISTS = 3

Measure = Callable[[int, float], float]
"""Takes a length and a number of seconds; returns tokens per second."""


def best_length(measure: Measure, lengths: Iterable[int], seconds: float) -> tuple[int, dict[int, float]]:
    """The fastest length, and the tokens per second it was chosen by: every length's for half the
    `seconds`, then the best three's for twice that, averaged over both. Ties go to the shorter.
    """
    speeds = {length: measure(length, seconds / 2) for length in lengths}
    finalists = sorted(speeds, key=lambda length: (-speeds[length], length))[:_FINALISTS]
    for length in finalists:
        speeds[length] = (speeds[length] + 2 * measure(length, seconds)) / 3
    return min(finalists, key=lambda length: (-speeds[length], length)), speeds


def as_table(lengths: Mapping[int, int], largest: int) -> list[tuple[int, int, int]]:
    """vLLM's entries (first batch size, last, length) from lengths by concurrency.

    Concurrencies are the middle of their range, as ratios: a batch is smaller at times. The last entry
    ends at `largest`.
    """
    concurrencies = sorted(lengths)
    ends = [math.isqrt(a * b) for a, b in itertools.pairwise(concurrencies)] + [largest]
    firsts = [1, *(end + 1 for end in ends)]
    return [
        (first, end, lengths[concurrency])
        for first, end, concurrency in zip(firsts, ends, concurrencies, strict=False)
    ]
