"""Forms of cost model that are compared: what a step's time is a non-negative combination of.

All but the last are fitted by least squares of relative errors, without prior; the last is the controller's
own model, prior included, as it starts from a profile. Where an engine has captured graph sizes, all forms
count padded tokens, so that the comparison is of forms and not of who was told. Cells are all of decode
steps, or all of steps with prompts beside decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.optimize import nnls
from turbospec.engines.profiling import fit as controllers
from turbospec.sidecar.core.cost_cells import shape_of
from turbospec.sidecar.core.cost_features import CostFeatures
from turbospec.sidecar.core.types import Capabilities, FloatArray
from turbospec.sidecar.profiles.profile import Cell
from turbospec.sidecar.server.profile_keeping import as_cost

Predict = Callable[[Cell], float]
"""Seconds of a cell's steps."""
_RAMP = "target_tokens"  # how names of the token curve's features begin
# Of some engines only: they are in every form, since no form could do without.
_MODES = ("drafter_runs", "ragged_step", "prompt_tokens")


class Form(Protocol):
    """One way to write down a step's time."""

    @property
    def name(self) -> str:
        """What it is called."""

    def fit(self, cells: Sequence[Cell], engine: Capabilities) -> Predict:
        """The model of this form that describes `cells` best."""

    def size(self, cells: Sequence[Cell], engine: Capabilities) -> int:
        """How many numbers it has to learn from such cells."""


@dataclass(frozen=True, slots=True)
class Combination:
    """A non-negative combination of `features`; `curve`: tokens as any monotone piecewise linear curve."""

    name: str
    features: tuple[str, ...]
    curve: bool

    def fit(self, cells: Sequence[Cell], engine: Capabilities) -> Predict:
        rows = self._rows(cells, engine)
        seconds = np.array([cell.seconds for cell in cells])
        scale = rows.max(axis=0)
        scale[scale == 0.0] = 1.0
        found, _ = nnls(rows / scale / seconds[:, None], np.ones(len(cells)))
        coefficients = found / scale
        return lambda cell: float(self._rows([cell], engine)[0] @ coefficients)

    def size(self, cells: Sequence[Cell], engine: Capabilities) -> int:
        return int(np.count_nonzero(self._rows(cells, engine).any(axis=0)))

    def _rows(self, cells: Sequence[Cell], engine: Capabilities) -> FloatArray:
        known = _features(cells, engine)
        return np.array([self._row(cell, known) for cell in cells])

    def _row(self, cell: Cell, known: CostFeatures) -> list[float]:
        values = _row(cell, known).tolist()
        named = dict(zip(known.names, values, strict=True))
        ramps = [value for name, value in named.items() if name.startswith(_RAMP)]
        passes = named["first_draft_pass"] + named["further_draft_passes"]
        named |= {"draft_passes": passes, "draft_passes_times_requests": passes * cell.requests}
        wanted = [named[name] for name in self.features]
        modes = [named[name] for name in _MODES if name in named and name not in self.features]
        return [*wanted, *modes, *(ramps if self.curve else [sum(ramps)])]


class Controller:
    """The controller's model, as it starts from these cells."""

    name = "controller"

    def fit(self, cells: Sequence[Cell], engine: Capabilities) -> Predict:
        model = controllers.fit(cells, engine)
        return lambda cell: controllers.predict(model, cell)

    def size(self, cells: Sequence[Cell], engine: Capabilities) -> int:
        known = _features(cells, engine)
        rows = [_row(cell, known) for cell in cells]
        return int(np.count_nonzero(np.any(rows, axis=0)))


def _features(cells: Sequence[Cell], engine: Capabilities) -> CostFeatures:
    return CostFeatures(engine, mixed=bool(cells[0].prefill_tokens))


def _row(cell: Cell, known: CostFeatures) -> FloatArray:
    cost = as_cost(cell)
    return known.row(cost.target_tokens, shape_of(cost))


_LINEAR = ("step", "context_tokens", "requests", "draft_passes")
_SEPARABLE = ("step", "context_tokens", "draft_passes", "draft_passes_times_requests")
_ALL = (
    "step",
    "context_tokens",
    "requests",
    "first_draft_pass",
    "further_draft_passes",
    "further_draft_passes_times_requests",
)

FORMS: tuple[Form, ...] = (
    Combination("linear", _LINEAR, curve=False),
    Combination("linear, target + draft", _SEPARABLE, curve=False),
    Combination("curve", _LINEAR, curve=True),
    Combination("curve, target + draft", _SEPARABLE, curve=True),
    Combination("controller's features", _ALL, curve=True),
    Controller(),
)
"""From simple to rich: `linear` in tokens, context, requests and draft passes; `target + draft`: what a draft
pass costs grows with its requests, and the target's part knows tokens and context only; `curve`: tokens as a
monotone piecewise linear curve.
"""
