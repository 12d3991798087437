"""Ratios between two arms with bootstrap intervals. Pure.

All averages are geometric. Arms are compared phase by phase, each phase with equal weight: with as many steps
in a phase of one request as in one of 32, tokens over seconds of both together would be those of the 32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from turbospec.engines.bench.e2e.scoring import EVEN, MIN_REPEATS, ODD, RESAMPLES, Estimate

Speeds = Sequence[Sequence[float]]
"""Tokens per second: a row for each phase, a column for each repeat."""
_Logs = NDArray[np.float64]
_Mean = Callable[[_Logs], _Logs]

_PERCENTILES = (5.0, 95.0)  # a 90% interval


def ratio(arm: Speeds, other: Speeds) -> Estimate:
    """One arm over another: mean over phases and repeats."""
    return _estimate(_log_ratios(arm, other), lambda logs: logs.mean(axis=(0, 2)))


def worst(arm: Speeds, other: Speeds) -> tuple[Estimate, tuple[int, int]]:
    """The same in the phase in which it is lowest, and that phase by the odd repeats and by the even ones.

    The lowest of several noisy ratios is lower than any is; so it is chosen on one half of the repeats and
    measured on the other, and the other way round.
    """
    logs = _log_ratios(arm, other)
    odd, even = (int(logs[:, 0, half].mean(axis=-1).argmin()) for half in (ODD, EVEN))
    return _estimate(logs, _log_worst), (odd, even)


def _log_worst(logs: _Logs) -> _Logs:
    samples = np.arange(logs.shape[1])
    parts = []
    for chosen_on, measured_on in ((ODD, EVEN), (EVEN, ODD)):
        lowest = logs[:, :, chosen_on].mean(axis=-1).argmin(axis=0)
        parts.append(logs[:, :, measured_on].mean(axis=-1)[lowest, samples])
    return np.asarray(np.mean(parts, axis=0))


def _estimate(logs: _Logs, mean: _Mean) -> Estimate:
    low, high = np.exp(np.percentile(mean(_resampled(logs)), _PERCENTILES))
    return Estimate(float(np.exp(mean(logs)[0])), float(low), float(high))


def _log_ratios(arm: Speeds, other: Speeds) -> _Logs:
    """Shape (phases, 1, repeats)."""
    speeds = np.array([arm, other], dtype=np.float64)
    if speeds.ndim != 3 or speeds.shape[2] < MIN_REPEATS or not (speeds > 0).all():
        raise ValueError("both arms need the same phases, with as many positive speeds each, four or more")
    return np.asarray(np.diff(-np.log(speeds), axis=0)[0][:, np.newaxis])


def _resampled(logs: _Logs) -> _Logs:
    """Shape (phases, 1, repeats) to (phases, RESAMPLES, repeats - 2).

    Repeats are drawn with all their phases, which one start of a controller has in common; odd ones from odd
    ones and even from even, one fewer of each, as in `bench e2e` and for its reason.
    """
    repeats = logs.shape[2]
    draw = np.random.default_rng(0)
    index = np.empty((RESAMPLES, repeats - 2), dtype=np.intp)
    for half in (ODD, EVEN):
        index[:, half] = draw.choice(np.arange(repeats)[half], size=index[:, half].shape)
    return np.asarray(logs[:, 0, index])
