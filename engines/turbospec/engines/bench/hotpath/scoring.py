"""Percentiles and ratios, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from turbospec.engines.bench.hotpath.measured import Block

RESAMPLES = 10_000
_PERCENTILES = (5.0, 95.0)


@dataclass(frozen=True, slots=True)
class Dilation:
    """Step time with the adapter over without, and a 90% interval over pairs of blocks."""

    ratio: float
    low: float
    high: float
    seconds_per_step: float
    tokens_equal: bool


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    p50, p99 = np.percentile(values, (50, 99))
    return float(p50), float(p99)


def median_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """A 90% interval of the median: percentiles of bootstrap resamples."""
    drawn = np.random.default_rng(seed).choice(np.array(values), (1000, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), _PERCENTILES)
    return float(low), float(high)


def dilation(blocks: Sequence[Block], seed: int = 0) -> Dilation:
    """The geometric mean of the ratios of neighbouring blocks; `blocks` are pairs, in either order."""
    pairs = list(zip(blocks[::2], blocks[1::2], strict=True))
    logs = np.array([_log_ratio(first, second) for first, second in pairs])
    means = np.random.default_rng(seed).choice(logs, (RESAMPLES, logs.size)).mean(axis=1)
    low, high = np.exp(np.percentile(means, _PERCENTILES))
    without = [block.seconds_per_step for block in blocks if not block.adapter]
    return Dilation(
        ratio=float(np.exp(logs.mean())),
        low=float(low),
        high=float(high),
        seconds_per_step=float(np.mean(without)),
        tokens_equal=len({block.tokens for block in blocks}) == 1,
    )


def _log_ratio(first: Block, second: Block) -> float:
    present, absent = (first, second) if first.adapter else (second, first)
    return float(np.log(present.seconds_per_step / absent.seconds_per_step))
