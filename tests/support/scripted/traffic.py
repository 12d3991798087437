"""Requests: how well their drafts agree, how long they are, what their callers say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from turbospec.sidecar.core.types import RequestInfo


@dataclass(slots=True)
class TrafficClass:
    """Requests with these hazards by position (the last one repeats) and about `output_tokens` to produce.

    `availability` is the share of steps in which the drafter finds drafts at all. What is changed here
    holds at once, for running requests too.
    """

    hazards: tuple[float, ...] = (0.75,)
    output_tokens: int = 256
    label: str = ""
    availability: float = 1.0
    max_draft: int | None = None

    def hazard(self, position: int) -> float:
        """P(draft accepted | those before it accepted), at `position` from 0."""
        return self.hazards[min(position, len(self.hazards) - 1)]

    def accept(self, verified: int, draw: np.random.Generator) -> int:
        """How many of `verified` drafts are accepted: those before the first rejection."""
        for position in range(verified):
            if draw.random() >= self.hazard(position):
                return position
        return verified


@dataclass(slots=True)
class Request:
    """A request in the engine. `drafts` wait to be verified; without `ready` they may not be used, since
    the draft's KV cache has a gap. `prompted`: its prompt has been computed."""

    info: RequestInfo
    traffic: TrafficClass
    context_tokens: int
    left_tokens: int
    prompted: bool
    drafts: int = 0
    ready: bool = True

    def verifiable(self, wanted: int) -> int:
        """Drafts that it carries into verification where a plan wants so many: callers' caps hold here."""
        if not self.ready:
            return 0
        cap = self.info.max_draft
        return min(wanted, self.drafts) if cap is None else min(wanted, self.drafts, cap)

    def receive(self, tokens: int) -> int:
        """Takes the tokens of a step; those that its user gets, which end with the request."""
        received = min(tokens, self.left_tokens)
        self.context_tokens += tokens
        self.left_tokens -= received
        return received
