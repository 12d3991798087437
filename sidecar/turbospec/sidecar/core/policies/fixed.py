"""One length for everything: what operators do by hand. `idle` is length 0, `off` skips the drafter too."""

from __future__ import annotations

import numpy as np
from turbospec.sidecar.core.policies.base import Lengths, View
from turbospec.sidecar.core.types import Observation, Reason


class FixedPolicy:
    """Proposes and verifies `length` drafts of every request.

    `skip_drafter`: with length 0, the drafter does not run at all where the engine can do that.
    """

    def __init__(self, length: int, spec: str, *, skip_drafter: bool = False) -> None:
        self._length = length
        self._skip_drafter = skip_drafter
        self.spec = spec

    def observe(self, observation: Observation, *, timed: bool) -> None:
        """Learns nothing."""

    def decide(self, view: View) -> Lengths:
        """The same lengths, always."""
        return Lengths(
            proposal_length=self._length,
            verification=np.full(view.requests, self._length),
            floor=0.0,
            reason=Reason.FIXED,
            explanation=f"policy {self.spec}: length {self._length} for every request",
            skip_drafter=self._skip_drafter,
        )
