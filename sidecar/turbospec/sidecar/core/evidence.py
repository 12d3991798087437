"""What predicted step times rest on: own steps, a profile, a similar engine's, or other cells only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from turbospec.sidecar.core.cost_features import StepShape, octave
from turbospec.sidecar.core.types import Capabilities, CostCell

# The cost model believes the first steps of a cell when it has so many, for one alone may be an outlier.
LEAST_OWN_STEPS = 3

_Key = tuple[int, int, bool]
"""Octave of the batch size, proposal length, whether the drafter was skipped."""


class Basis(Enum):
    """The best of what a cell's predictions rest on."""

    MEASURED = "measured"
    PROFILE = "profile"
    PRIOR = "prior"
    EXTRAPOLATED = "extrapolated"


@dataclass(frozen=True, slots=True)
class CellEvidence:
    """What is known of steps with from `least_requests` to `most_requests` requests at one length.

    `own_steps` were made by this engine since its estimators started, `profile_steps` are of a profile of its
    kind, `prior_steps` of one of a similar engine, which lends its shape only. All are steps that were timed:
    several that were reported as one count as one, since their mean is all that is learned of them.
    """

    least_requests: int
    most_requests: int
    proposal_length: int
    drafter_skipped: bool
    own_steps: int
    profile_steps: int
    prior_steps: int

    @property
    def basis(self) -> Basis:
        if self.own_steps >= LEAST_OWN_STEPS:
            return Basis.MEASURED
        if self.profile_steps:
            return Basis.PROFILE
        return Basis.PRIOR if self.prior_steps else Basis.EXTRAPOLATED


class CostEvidence:
    """Counts steps by cell: batch sizes by octave, as the cost model does."""

    def __init__(self, capabilities: Capabilities) -> None:
        modes = [(length, False) for length in capabilities.candidate_lengths]
        self._modes = [*modes, (0, True)] if capabilities.deep_off else modes
        self._own: Counter[_Key] = Counter()
        self._profile: Counter[_Key] = Counter()
        self._prior: Counter[_Key] = Counter()

    def seed(self, cells: Iterable[CostCell], *, same_engine: bool) -> None:
        """Takes measured cells of an engine like this one, or of a similar one."""
        counts = self._profile if same_engine else self._prior
        for cell in cells:
            counts[octave(cell.requests), cell.proposal_length, cell.drafter_skipped] += cell.steps

    def add(self, shape: StepShape) -> None:
        """One more own step whose time is learned from, or several with one time, their mean."""
        self._own[octave(shape.requests), shape.proposal_length, shape.drafter_skipped] += 1

    def cells(self) -> tuple[CellEvidence, ...]:
        """All lengths that the engine can run, for every octave of batch sizes of which anything is known."""
        known = self._own.keys() | self._profile.keys() | self._prior.keys()
        return tuple(
            CellEvidence(
                *_requests_in(at),
                length,
                skipped,
                self._own[at, length, skipped],
                self._profile[at, length, skipped],
                self._prior[at, length, skipped],
            )
            for at in sorted({at for at, _, _ in known})
            for length, skipped in self._modes
        )


def _requests_in(at: int) -> tuple[int, int]:
    """Smallest and largest batch of an octave."""
    return math.ceil(2 ** (at - 0.5)), math.floor(2 ** (at + 0.5))
