"""What a decode step's time is made of: the features of the cost model and their prior.

Time against target tokens is monotone but neither convex nor concave (kernels change with the batch, and
captured graphs make it a staircase), so the tokens enter as ramps over octaves: resolution in proportion
to the count, any monotone piecewise linear curve. The first draft pass has a feature of its own, because
many engines run it even at length 0, where it keeps the draft's cache current: 0 -> 1 is then free and
1 -> 2 is not. Where the drafter can be skipped altogether, that it runs at all is a feature too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import mul

import numpy as np
from turbospec.sidecar.core.types import Capabilities, FloatArray

_EDGES = (0, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# The last ramp has no end; no step holds a million tokens.
_KNOTS = np.array([*_EDGES, 1_000_000], dtype=np.float64)
_WIDTHS = np.diff(_KNOTS)
RAMPS = len(_WIDTHS)

# Prior cost of one unit of each feature as a part of the fixed cost of a step. Pessimistic about
# speculation on purpose: a target token costs 2% (0.4% on a large GPU, 1 to 3% on a CPU), a draft pass 10%
# (real drafts: 5 to 15%).
_PRIOR = {
    "step": 1.0,
    "context_tokens": 5e-6,
    "requests": 5e-3,
    "first_draft_pass": 0.05,
    "further_draft_passes": 0.10,
    "further_draft_passes_times_requests": 2e-3,
}
_PRIOR_TOKEN = 0.02
# Only of engines that can skip the drafter.
_PRIOR_DRAFTER = {"drafter_runs": 0.05, "drafter_runs_times_requests": 1e-3}
# Losing the captured graph costs launches: a part of the step, unknown until a ragged step was seen.
_PRIOR_RAGGED = 0.3


def octave(requests: int) -> int:
    """The range of batch sizes that `requests`, at least 1, is in: 1, 2, 3-5, 6-11, 12-22, ...

    Around powers of two, which loads favour: one request more or less is rarely another range.
    """
    return round(math.log2(requests))


@dataclass(frozen=True, slots=True)
class StepShape:
    """A step but for its target tokens. `context_tokens` is the total over its `requests`."""

    context_tokens: int
    requests: int
    proposal_length: int
    ragged: bool = False
    drafter_skipped: bool = False


@dataclass(frozen=True, slots=True)
class Costs:
    """Coefficients in the form that predictions use: they are made many times between two fits."""

    scalars: tuple[float, ...]
    at_knots: FloatArray
    ragged: float


class CostFeatures:
    """The features of one engine's steps."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._graph_sizes = np.array(capabilities.graph_sizes, dtype=np.float64)
        self._saves_draft_cost = capabilities.proposal_saves_draft_cost
        self._max_length = capabilities.max_length
        self._ragged_costs = capabilities.ragged_breaks_graphs
        self._can_skip = capabilities.deep_off
        scalars = _PRIOR | (_PRIOR_DRAFTER if self._can_skip else {})
        ramps = [f"target_tokens_{low}_to_{high}" for low, high in pairwise(_EDGES)]
        self.names = (*scalars, *ramps, f"target_tokens_above_{_EDGES[-1]}")
        prior = [*scalars.values(), *([_PRIOR_TOKEN] * RAMPS)]
        if self._ragged_costs:
            self.names = (*self.names, "ragged_step")
            prior.append(_PRIOR_RAGGED)
        self.prior: FloatArray = np.array(prior)
        self.ramp_columns = slice(len(scalars), len(scalars) + RAMPS)

    def row(self, tokens: int, shape: StepShape) -> FloatArray:
        """One step's features, shape (F,)."""
        padded = self._padded(np.array([float(tokens)]))
        ramps = np.minimum(np.maximum(padded - _KNOTS[:-1], 0.0), _WIDTHS)
        ragged = [float(shape.ragged)] if self._ragged_costs else []
        return np.concatenate((self._scalars(shape), ramps, ragged))

    def costs(self, coefficients: FloatArray) -> Costs:
        """What `seconds` needs of the coefficients."""
        at_knots = np.zeros(RAMPS + 1)
        np.cumsum(coefficients[self.ramp_columns] * _WIDTHS, out=at_knots[1:])
        ragged = float(coefficients[-1]) if self._ragged_costs else 0.0
        return Costs(tuple(coefficients[: self.ramp_columns.start].tolist()), at_knots, ragged)

    def seconds(self, costs: Costs, tokens: FloatArray, shape: StepShape) -> FloatArray:
        """Predicted step time for each entry of `tokens`, same shape."""
        seconds: FloatArray = np.interp(self._padded(tokens), _KNOTS, costs.at_knots)
        seconds += self._fixed(costs, shape)
        return seconds

    def steps_seconds(self, costs: Costs, tokens: FloatArray, shapes: Sequence[StepShape]) -> FloatArray:
        """The same for several steps: `tokens` has a row for each, shape (P, M)."""
        seconds: FloatArray = np.interp(self._padded(tokens), _KNOTS, costs.at_knots)
        seconds += np.array([self._fixed(costs, shape) for shape in shapes])[:, None]
        return seconds

    def _fixed(self, costs: Costs, shape: StepShape) -> float:
        """All but the target tokens."""
        fixed: float = sum(map(mul, self._scalars(shape), costs.scalars))
        return fixed + costs.ragged if shape.ragged else fixed

    def _padded(self, tokens: FloatArray) -> FloatArray:
        """Tokens that the engine computes: up to the next captured graph, where there is one."""
        if not self._graph_sizes.size:
            return tokens
        index = np.searchsorted(self._graph_sizes, tokens)
        inside = index < self._graph_sizes.size
        return np.where(inside, self._graph_sizes[np.minimum(index, self._graph_sizes.size - 1)], tokens)

    def _scalars(self, shape: StepShape) -> list[float]:
        length = shape.proposal_length
        passes = length if self._saves_draft_cost or length == 0 else self._max_length
        further = max(passes - 1, 0)
        scalars = [
            1.0,
            shape.context_tokens,
            shape.requests,
            float(passes > 0),
            further,
            further * shape.requests,
        ]
        if self._can_skip:
            runs = 0.0 if shape.drafter_skipped else 1.0
            scalars += (runs, runs * shape.requests)
        return scalars
