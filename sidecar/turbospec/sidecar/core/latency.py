"""Online cost model: the time of a decode step, a non-negative combination of features.

Weighted least squares with forgetting and a weak prior (scipy's `nnls` on the Cholesky factor of the
normal equations). Residuals are relative to the prediction, since noise grows with the step.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls
from turbospec.sidecar.core.clocks import decay
from turbospec.sidecar.core.cost_cells import shape_of
from turbospec.sidecar.core.cost_features import RAMPS, CostFeatures, StepShape, Tokens, octave
from turbospec.sidecar.core.speed import WINDOW, MachineSpeed
from turbospec.sidecar.core.types import Capabilities, CostCell, Disturbance, FloatArray, Observation

# The shape of an engine's cost hardly changes, and lengths that do not pay are seen once in a hundred
# steps, so memory is long. What does change is the machine's speed, which is followed apart.
HALF_LIFE_STEPS = 2000.0
# Ridge weights are the noise's variance over the prior's own: a coefficient may be off by its own size,
# neighbouring octaves of the token curve by half of it. A single octave leans on its neighbours rather than
# on the prior, so that one that was never visited follows those that were. Noise is what was seen of it, in
# parts of a step, and never less than is usual.
LEAST_NOISE = 0.05
PRIOR_RIDGE = 1.0
RAMP_RIDGE = 0.2
NEIGHBOUR_RIDGE = 4.0
# Steps that set the prior's scale; the median, because first steps are slow ones (kernels warm up).
SCALE_STEPS = 16
# Noise is one-sided: a step can be arbitrarily slow. Beyond six times the usual error, and never within
# 15%, a step is taken for this bound, and counts the less the farther beyond it lies; where many are slow the
# usual error grows and so does the bound.
CLIP_ERRORS = 6.0
CLIP_AT_LEAST = 0.15
# A fit costs about 100 us, so it is made at growing intervals, up to this many steps.
MAX_REFIT_INTERVAL = 16
# No step is free. The fit may find so where durations contradict each other, and a prediction of 0 would be
# divided by; the fixed cost is never believed to be below a thousandth of the prior's.
LEAST_STEP = 1e-3
# A ridge above rounding, relative to each column: times that span many orders of magnitude (a clock that is
# wrong) would otherwise leave the normal equations singular.
ROUNDING_RIDGE = 1e-10
# Cells are batch sizes (by octave) times proposal lengths. Until so many steps of one were timed, what the
# model says of it is a guess from other cells: its steps are then held against each other, and their distance
# from the guess is not taken for a change of the machine's speed.
KNOWN_STEPS = 8
# With fewer steps of a cell it cannot be told which of them is an outlier, so they wait for each other.
FIRST_STEPS = 3
# Steps of which the model's error is told.
ERROR_STEPS = 64
# Steps after which the fit says more than the prior.
FITTED_STEPS = 8.0
# What skipping the drafter saves cannot be deduced from what drafting costs: an engine that speculates does
# more at length 0 than drafting (its sampler, its scheduler's round trips). Until it was measured it is hoped
# to save a fifth of a step, and a twentieth where it was measured at other batch sizes only; so where the
# hope would pay it is tried, and the first steps tell.
HOPED_SHARE = 0.2
HOPED_SHARE_ELSEWHERE = 0.05

_CellKey = tuple[int, int, bool]
"""Octave of the batch size, proposal length, whether the drafter was skipped."""


def is_undisturbed(observation: Observation) -> bool:
    """Whether the duration is that of steady decoding: of one step, or of several alike."""
    return (
        observation.duration is not None
        and not observation.disturbances
        and observation.slots.size > 0
        and (observation.steps == 1 or _are_alike(observation))
    )


def is_mixed(observation: Observation) -> bool:
    """Whether it is one step that computed prompts beside decoding, and nothing else disturbed it."""
    return (
        observation.duration is not None
        and observation.disturbances == {Disturbance.PREFILL}
        and observation.slots.size > 0
        and observation.steps == 1
    )


def _are_alike(observation: Observation) -> bool:
    """Whether coalesced steps had no drafts, or all had the same requests, which verified all drafts.

    Only the last step's proposal length is known; where as many were verified in all, all others had it too.
    """
    if not (observation.proposal_length or observation.verified.any()):
        return True
    requests, rest = divmod(observation.slots.size, observation.steps)
    return (
        not rest
        and np.unique(observation.slots).size == requests
        and bool((observation.verified == observation.proposal_length).all())
    )


class LatencyModel:
    """Step time of one engine, learned from its undisturbed steps.

    `mixed`: learned from steps that computed prompts beside decoding, when there are no others (see `mixed`).
    Predictions are of their decoding all the same.
    """

    def __init__(self, capabilities: Capabilities, *, mixed: bool = False) -> None:
        self.mixed = mixed
        self._features = CostFeatures(capabilities, mixed=mixed)
        # Columns are scaled by the prior's shape, so that every unknown is a step time in seconds.
        self._shape = self._features.prior
        size = self._shape.size
        self._gram = np.zeros((size, size))
        self._moment = np.zeros(size)
        self._scale_samples: list[float] = []
        self._scale = 0.0
        self._believe(np.zeros(size))
        self._since_fit = 0
        self._errors: deque[float] = deque(maxlen=ERROR_STEPS)
        self._speed = MachineSpeed()
        # Features and seconds of steps that wait until as many came after them as before, for the speed then.
        self._waiting: deque[tuple[FloatArray, float]] = deque()
        self.evidence_steps = 0.0
        self._steps_at: Counter[_CellKey] = Counter()
        # Of cells that are not known yet: features and seconds of their steps.
        self._unknown: dict[_CellKey, list[tuple[FloatArray, float]]] = {}
        self._skipped_steps = 0
        # Whether all that is known is another engine's.
        self._borrowed = False

    @property
    def ready(self) -> bool:
        """Whether any step was timed, so that predictions have a scale."""
        return self._scale > 0.0

    @property
    def fitted(self) -> bool:
        """Whether predictions rest on measurement rather than on the prior's shape."""
        return self.evidence_steps >= FITTED_STEPS

    @property
    def slowdown_ratio(self) -> float:
        """How many times as long steps take now as when their costs were learned."""
        return self._speed.factor

    def knows_skipped(self, requests: int) -> bool:
        """Whether steps without the drafter, with about as many requests, are known by measurement."""
        return self._steps_at[octave(requests), 0, True] >= KNOWN_STEPS

    def off_was_tried(self, requests: int) -> bool:
        """Whether what skipping the drafter saves, with about as many requests, was measured at all."""
        return self._steps_at[octave(requests), 0, True] >= FIRST_STEPS

    @property
    def model_error(self) -> float | None:
        """Median |predicted - measured| / measured of predictions made before learning from the step."""
        return float(np.median(self._errors)) if self._errors else None

    def steps_at(self, requests: int, length: int) -> int:
        """Steps learned from at one proposal length, with about as many requests (within its octave)."""
        return self._steps_at[octave(requests), length, False]

    def terms(self) -> tuple[tuple[str, float], ...]:
        """(feature, seconds per unit), all at least 0."""
        return tuple(
            zip(self._features.names, (self._speed.factor * self._coefficients).tolist(), strict=True)
        )

    def step_seconds(self, tokens: Tokens, shape: StepShape) -> Tokens:
        """Predicted seconds of a step for each number of target tokens, same shape; 0 until `ready`."""
        seconds = self._speed.factor * self._features.seconds(self._costs, tokens, shape)
        if not shape.drafter_skipped or self._steps_at[_cell(shape)] >= FIRST_STEPS:
            return seconds
        if self._skipped_steps >= FIRST_STEPS:
            return (1.0 - HOPED_SHARE_ELSEWHERE) * seconds
        with_drafter = self._features.seconds(self._costs, tokens, replace(shape, drafter_skipped=False))
        return (1.0 - HOPED_SHARE) * self._speed.factor * with_drafter

    def steps_seconds(self, tokens: FloatArray, shape: StepShape, lengths: tuple[int, ...]) -> FloatArray:
        """The same for several lengths, all with the drafter: `tokens` has a row for each, (P, M)."""
        return self._speed.factor * self._features.steps_seconds(self._costs, tokens, shape, lengths)

    def expected_seconds(self, tokens: int, shape: StepShape) -> float:
        """Predicted seconds of a step as it is, with its prompts; 0 until `ready`."""
        return self._speed.factor * float(self._features.row(tokens, shape) @ self._coefficients)

    def observe(self, seconds: float, tokens: int, shape: StepShape) -> None:
        """Learns from an undisturbed step that took `seconds`, above 0, or from the mean of several alike."""
        row = self._features.row(tokens, shape)
        if len(self._scale_samples) < SCALE_STEPS:
            self._scale_samples.append(seconds / float(row @ self._shape))
            self._scale = float(np.median(self._scale_samples))
        if self.evidence_steps == 0.0:
            self._believe(self._scale * self._shape)
        cell = _cell(shape)
        self._steps_at[cell] += 1
        self._skipped_steps += shape.drafter_skipped
        if self._steps_at[cell] > KNOWN_STEPS:
            self._learn_known(row, seconds)
        else:
            self._learn_unknown(cell, row, seconds / self._speed.factor)

    def seed(self, cells: Sequence[CostCell], *, same_engine: bool) -> None:
        """Starts from measured cells; only before the first step.

        `same_engine`: they are of an engine like this one, so that they count as its own steps would. Others
        only lend their shape: each counts as one step, the engine's first own steps say how fast it is, and
        its lengths are tried all the same.
        """
        shapes = [shape_of(cell) for cell in cells]
        rows = [self._features.row(c.target_tokens, s) for c, s in zip(cells, shapes, strict=True)]
        self._scale = median(
            cell.seconds / float(row @ self._shape) for cell, row in zip(cells, rows, strict=True)
        )
        self._scale_samples = [self._scale] * SCALE_STEPS
        for cell, shape, row in zip(cells, shapes, rows, strict=True):
            weight = min(cell.steps, KNOWN_STEPS) if same_engine else 1
            self._add(row, cell.seconds, cell.seconds, weight=weight)
            if same_engine:
                self._steps_at[_cell(shape)] += cell.steps
                self._skipped_steps += cell.steps * cell.drafter_skipped
        self._borrowed = not same_engine
        self._fit()

    def _learn_known(self, row: FloatArray, seconds: float) -> None:
        expected = float(row @ self._coefficients)
        self._errors.append(abs(self._speed.factor * expected - seconds) / seconds)
        self._speed.observe(seconds / expected)
        self._waiting.append((row, seconds))
        if len(self._waiting) <= WINDOW // 2:
            return
        row, seconds = self._waiting.popleft()
        self._add(row, seconds / self._speed.factor, float(row @ self._coefficients))
        if self._since_fit >= min(MAX_REFIT_INTERVAL, 1 + self.evidence_steps / 8):
            self._fit()

    def _learn_unknown(self, cell: _CellKey, row: FloatArray, seconds: float) -> None:
        steps = self._unknown.setdefault(cell, [])
        steps.append((row, seconds))
        if len(steps) < FIRST_STEPS:
            return
        guess = median(taken / float(features @ self._coefficients) for features, taken in steps)
        if self._borrowed:
            self._borrowed = False
            self._rescale(guess)
            guess = 1.0
        for features, taken in steps if len(steps) == FIRST_STEPS else steps[-1:]:
            self._add(features, taken, guess * float(features @ self._coefficients))
        if len(steps) == KNOWN_STEPS:
            del self._unknown[cell]
        self._fit()

    def _add(self, row: FloatArray, seconds: float, expected: float, weight: float = 1.0) -> None:
        """Adds a step to the fit, or as many as `weight`, each weighted by what it was expected to take."""
        ratio, bound = seconds / expected, 1.0 + max(CLIP_AT_LEAST, CLIP_ERRORS * self._speed.usual_error)
        if ratio > bound:
            weight *= (bound - 1.0) / (ratio - 1.0)
            ratio = bound
        weighted = row * self._shape / expected
        keep = decay(HALF_LIFE_STEPS)
        self._gram = keep * self._gram + weight * np.outer(weighted, weighted)
        self._moment = keep * self._moment + weight * weighted * ratio
        self.evidence_steps = keep * self.evidence_steps + weight
        self._since_fit += 1

    def _rescale(self, ratio: float) -> None:
        self._moment *= ratio
        self._scale *= ratio
        self._believe(ratio * self._coefficients)

    def _fit(self) -> None:
        ridge = np.full(self._shape.size, PRIOR_RIDGE)
        ramps = self._features.ramp_columns
        ridge[ramps] = RAMP_RIDGE
        penalty = np.diag(ridge)
        difference = np.diff(np.eye(RAMPS), axis=0)
        penalty[ramps, ramps] += NEIGHBOUR_RIDGE * difference.T @ difference
        variance = max(LEAST_NOISE, self._speed.usual_error) ** 2
        penalty *= variance / self._scale**2
        # The differences between equal priors are 0, so only the diagonal pulls towards the scale.
        target = self._moment + variance * ridge / self._scale
        information = self._gram + penalty
        unit = np.sqrt(np.diag(information))
        scaled = information / np.outer(unit, unit) + ROUNDING_RIDGE * np.eye(unit.size)
        factor = cholesky(scaled, lower=True)
        solution, _ = nnls(factor.T, solve_triangular(factor, target / unit, lower=True))
        solution /= unit
        solution[0] = max(solution[0], LEAST_STEP * self._scale)
        self._believe(solution * self._shape)
        self._since_fit = 0

    def _believe(self, coefficients: FloatArray) -> None:
        self._coefficients = coefficients
        self._costs = self._features.costs(coefficients)


def _cell(shape: StepShape) -> _CellKey:
    return octave(shape.requests), shape.proposal_length, shape.drafter_skipped
