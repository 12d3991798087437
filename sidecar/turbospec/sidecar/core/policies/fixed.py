"""One length for everything: what operators do by hand. `idle` is length 0."""

from __future__ import annotations

import numpy as np
from turbospec.sidecar.core.policies.base import Lengths, View
from turbospec.sidecar.core.types import Observation, Reason


class FixedPolicy:
    """Proposes and verifies `length` drafts of every request."""

    def __init__(self, length: int, spec: str) -> None:
        self._length = length
        self.spec = spec

    def observe(self, observation: Observation) -> None:
        """Learns nothing."""

    def decide(self, view: View) -> Lengths:
        """The same lengths, always."""
        return Lengths(
            proposal_length=self._length,
            verification=np.full(view.requests, self._length),
            floor=0.0,
            reason=Reason.FIXED,
            explanation=f"policy {self.spec}: length {self._length} for every request",
        )
