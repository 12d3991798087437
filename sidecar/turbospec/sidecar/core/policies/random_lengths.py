"""Random lengths, for tests of losslessness: outputs must not depend on any length.

Not for production: it knows nothing of goodput.
"""

from __future__ import annotations

import numpy as np
from turbospec.sidecar.core.policies.base import Lengths, View
from turbospec.sidecar.core.types import Observation, Reason


class RandomLengthsPolicy:
    """Every decision: a random proposal length, and for each request a random verification length."""

    def __init__(self, seed: int, spec: str) -> None:
        self._draw = np.random.default_rng(seed)
        self.spec = spec

    def observe(self, observation: Observation, *, timed: bool) -> None:
        """Learns nothing."""

    def decide(self, view: View) -> Lengths:
        """Fresh random lengths."""
        k = int(self._draw.choice(view.proposals))
        return Lengths(
            proposal_length=k,
            verification=self._draw.integers(0, np.minimum(k, view.batch.caps), endpoint=True),
            # Survivals are in 0..1, so requests outside the batch get a random length too.
            floor=float(self._draw.random()),
            reason=Reason.FIXED,
            explanation=f"policy {self.spec}: random lengths, proposal length {k}",
        )
