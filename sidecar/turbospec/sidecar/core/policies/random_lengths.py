"""Random lengths, for tests of losslessness: outputs must not depend on any length.

Not for production: it knows nothing of goodput.
"""

from __future__ import annotations

import numpy as np
from turbospec.sidecar.core.policies.base import Lengths, View
from turbospec.sidecar.core.types import Observation, Reason


class RandomLengthsPolicy:
    """Every decision: a random proposal length; a random verification length for each that can have one."""

    def __init__(self, seed: int, spec: str) -> None:
        self._draw = np.random.default_rng(seed)
        self.spec = spec

    def observe(self, observation: Observation, *, timed: bool) -> None:
        """Learns nothing."""

    def decide(self, view: View) -> Lengths:
        """Fresh random lengths."""
        k = int(self._draw.choice(view.proposals))
        each = view.capabilities.verification_per_request
        return Lengths(
            proposal_length=k,
            # Where all have one length it is the shortest: of many random ones that would nearly always be 0.
            verification=(
                self._draw.integers(0, np.minimum(k, view.batch.caps), endpoint=True)
                if each
                else np.minimum(k, view.batch.caps)
            ),
            # Survivals are in 0..1, so requests outside the batch get a random length too.
            floor=float(self._draw.random()) if each else 0.0,
            reason=Reason.FIXED,
            explanation=f"policy {self.spec}: random lengths, proposal length {k}",
        )
