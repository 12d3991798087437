"""The one place where lengths meet what is allowed; no policy can get past it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from turbospec.sidecar.core.types import Capabilities, IntArray


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds lengths beside the engine: the operator's cap, and the longest cap of a live request."""

    capabilities: Capabilities
    operator_cap: int
    longest_caller_cap: int

    def proposals(self) -> tuple[int, ...]:
        """Proposal lengths that may be used, ascending, never empty.

        An engine that cannot propose as little as the caps ask for keeps its shortest length; nothing of
        it is verified beyond the caps.
        """
        if not self.capabilities.proposal_settable:
            return (self.capabilities.max_length,)
        candidates = self.capabilities.candidate_lengths
        cap = min(self.operator_cap, self.longest_caller_cap)
        return tuple(k for k in candidates if k <= cap) or candidates[:1]

    def clamp(
        self, proposal_length: int, verification: IntArray, default: int, caps: IntArray
    ) -> tuple[int, IntArray, int]:
        """Proposal length, verification lengths (n,) and default, as wanted but within all limits.

        `caps` (n,) are the callers'. Where the engine has one verification length for the batch, every
        caller's cap can only be kept by all.
        """
        proposals = self.proposals()
        k = max((k for k in proposals if k <= proposal_length), default=proposals[0])
        bound = min(k, self.operator_cap)
        verification = np.maximum(np.minimum(verification, np.minimum(caps, bound)), 0)
        default = min(max(default, 0), bound)
        if not self.capabilities.verification_per_request:
            default = int(min(default, verification.min(initial=default)))
            verification = np.full_like(verification, default)
        return k, verification, default
