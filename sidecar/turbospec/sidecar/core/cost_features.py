"""What a decode step's time is made of: the features of the cost model and their prior.

Time against target tokens is monotone but neither convex nor concave (kernels change with the batch, and
captured graphs make it a staircase), so the tokens enter as ramps over octaves: resolution in proportion
to the count, any monotone piecewise linear curve. The first draft pass has a feature of its own, because
many engines run it even at length 0, where it keeps the draft's cache current: 0 -> 1 is then free and
1 -> 2 is not. Where the drafter can be skipped altogether, that it runs at all is a feature too.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from operator import mul
from typing import TypeVar

import numpy as np
from turbospec.sidecar.core.types import Capabilities, FloatArray

_EDGES = (0, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# The last ramp has no end; no step holds a million tokens.
_KNOTS = np.array([*_EDGES, 1_000_000], dtype=np.float64)
_KNOTS_LIST: list[float] = _KNOTS.tolist()
_WIDTHS = np.diff(_KNOTS)
RAMPS = len(_WIDTHS)
_RAMPS: list[tuple[float, float]] = list(zip(_KNOTS_LIST, _WIDTHS.tolist(), strict=False))

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
# Only of steps that compute prompts too. Prompt tokens come many at a time, and cost less than others.
_PRIOR_PROMPT_TOKEN = 0.01


def octave(requests: int) -> int:
    """The range of batch sizes that `requests`, at least 1, is in: 1, 2, 3-5, 6-11, 12-22, ...

    Around powers of two, which loads favour: one request more or less is rarely another range.
    """
    return round(math.log2(requests))


Tokens = TypeVar("Tokens", float, FloatArray)
"""Target tokens of one step, or of any number of them at once."""


@dataclass(frozen=True, slots=True)
class StepShape:
    """A step but for its target tokens. `context_tokens` is the total over its `requests`, which decode."""

    context_tokens: int
    requests: int
    proposal_length: int
    ragged: bool = False
    drafter_skipped: bool = False
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Costs:
    """Coefficients in the form that predictions use: they are made many times between two fits."""

    scalars: tuple[float, ...]
    at_knots: FloatArray
    at_knots_list: list[float]
    ragged: float


class CostFeatures:
    """The features of one engine's steps: of decode steps, or of `mixed` ones, which compute prompts too."""

    def __init__(self, capabilities: Capabilities, *, mixed: bool = False) -> None:
        # Graphs are captured for steps that only decode.
        graph_sizes = () if mixed else capabilities.graph_sizes
        self._graph_sizes = np.array(graph_sizes, dtype=np.float64)
        self._mixed = mixed
        self._saves_draft_cost = capabilities.proposal_saves_draft_cost
        self._max_length = capabilities.max_length
        self._ragged_costs = capabilities.ragged_breaks_graphs and not mixed
        scalars = _PRIOR | (_PRIOR_DRAFTER if capabilities.deep_off else {})
        self._scalar_count = len(scalars)
        ramps = [f"target_tokens_{low}_to_{high}" for low, high in pairwise(_EDGES)]
        self.names = (*scalars, *ramps, f"target_tokens_above_{_EDGES[-1]}")
        prior = [*scalars.values(), *([_PRIOR_TOKEN] * RAMPS)]
        if self._ragged_costs:
            self.names = (*self.names, "ragged_step")
            prior.append(_PRIOR_RAGGED)
        if mixed:
            self.names = (*self.names, "prompt_tokens")
            prior.append(_PRIOR_PROMPT_TOKEN)
        self.prior: FloatArray = np.array(prior)
        self.ramp_columns = slice(len(scalars), len(scalars) + RAMPS)

    def row(self, tokens: int, shape: StepShape) -> FloatArray:
        """One step's features, shape (F,)."""
        computed = self._padded_one(float(tokens))
        ramps = [min(max(computed - knot, 0.0), width) for knot, width in _RAMPS]
        scalars = self._scalars(shape, shape.proposal_length)
        # At most one of the two is there.
        ragged = [float(shape.ragged)] if self._ragged_costs else []
        prompts = [float(shape.prompt_tokens)] if self._mixed else []
        return np.array([*scalars, *ramps, *ragged, *prompts])

    def costs(self, coefficients: FloatArray) -> Costs:
        """What `seconds` needs of the coefficients."""
        at_knots = np.zeros(RAMPS + 1)
        np.cumsum(coefficients[self.ramp_columns] * _WIDTHS, out=at_knots[1:])
        ragged = float(coefficients[-1]) if self._ragged_costs else 0.0
        scalars = tuple(coefficients[: self.ramp_columns.start].tolist())
        return Costs(scalars, at_knots, at_knots.tolist(), ragged)

    def seconds(self, costs: Costs, tokens: Tokens, shape: StepShape) -> Tokens:
        """Predicted step time for each entry of `tokens`, same shape."""
        fixed = self._fixed(costs, shape, shape.proposal_length)
        # Of a single step numpy takes ten times as long.
        if isinstance(tokens, float):
            return self._target_pass(costs, tokens) + fixed
        return np.interp(self._padded(tokens), _KNOTS, costs.at_knots) + fixed

    def steps_seconds(
        self, costs: Costs, tokens: FloatArray, shape: StepShape, lengths: tuple[int, ...]
    ) -> FloatArray:
        """The same for other proposal lengths than that of `shape`: `tokens` has a row for each, (P, M)."""
        seconds: FloatArray = np.interp(self._padded(tokens), _KNOTS, costs.at_knots)
        seconds += np.array([[self._fixed(costs, shape, length)] for length in lengths])
        return seconds

    def _fixed(self, costs: Costs, shape: StepShape, length: int) -> float:
        """All but the target tokens."""
        fixed: float = sum(map(mul, self._scalars(shape, length), costs.scalars))
        return fixed + costs.ragged if shape.ragged else fixed

    def _target_pass(self, costs: Costs, tokens: float) -> float:
        """What `np.interp` does, for one number of tokens."""
        tokens = self._padded_one(tokens)
        at = min(bisect_right(_KNOTS_LIST, tokens), len(_KNOTS_LIST) - 1)
        (x0, x1), (y0, y1) = _KNOTS_LIST[at - 1 : at + 1], costs.at_knots_list[at - 1 : at + 1]
        return (y1 - y0) / (x1 - x0) * (tokens - x0) + y0

    def _padded(self, tokens: FloatArray) -> FloatArray:
        """Tokens that the engine computes: up to the next captured graph, where there is one."""
        if not self._graph_sizes.size:
            return tokens
        index = np.searchsorted(self._graph_sizes, tokens)
        inside = index < self._graph_sizes.size
        return np.where(inside, self._graph_sizes[np.minimum(index, self._graph_sizes.size - 1)], tokens)

    def _padded_one(self, tokens: float) -> float:
        return float(self._padded(np.array([tokens]))[0]) if self._graph_sizes.size else tokens

    def _scalars(self, shape: StepShape, length: int) -> tuple[float, ...]:
        """All features but tokens and raggedness, those of skipping the drafter last."""
        requests = shape.requests
        passes = length if self._saves_draft_cost or length == 0 else self._max_length
        further = max(passes - 1, 0)
        runs = 0.0 if shape.drafter_skipped else 1.0
        first = 1.0 if passes else 0.0
        return (
            1.0,
            shape.context_tokens,
            requests,
            first,
            further,
            further * requests,
            runs,
            runs * requests,
        )[: self._scalar_count]
