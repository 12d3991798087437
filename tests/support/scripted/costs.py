"""What a step costs, stated: surfaces of the target pass, drafting, context and prompts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

Curve = Callable[[float], float]
"""Seconds of a target pass over so many tokens."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a step's time depends on.

    `requests` counts all that are in the step, `tokens` those that the target computes for decoding: one for
    each decoding request and its drafts. `context_tokens` is the total over the decoding requests.
    `ragged`: decoding requests differ in how many drafts they carry.
    """

    requests: int
    tokens: int
    context_tokens: int
    proposal_length: int
    ragged: bool = False
    prefill_tokens: int = 0
    drafter_skipped: bool = False


def uniform_shape(requests: int, length: int, context_tokens: int = 0) -> Shape:
    """A decode step in which every request verifies `length` drafts and is proposed as many."""
    return Shape(requests, requests * (1 + length), context_tokens, length)


@dataclass(frozen=True, slots=True)
class Surface:
    """A target pass: `fixed` seconds, and those of `curve` for its tokens.

    `sizes`, ascending, are the captured graphs: tokens are padded up to the next one, so that those inside a
    size are free. Above the last they are not padded.
    """

    fixed: float
    curve: Curve
    sizes: tuple[int, ...] = ()

    def seconds(self, tokens: int) -> float:
        return self.fixed + self.curve(self.padded(tokens))

    def padded(self, tokens: int) -> int:
        """Tokens that the pass computes."""
        at = bisect_left(self.sizes, tokens)
        return self.sizes[at] if at < len(self.sizes) else tokens


def linear(fixed: float = 0.020, token: float = 0.0005, sizes: tuple[int, ...] = ()) -> Surface:
    """`token` seconds for each token; a staircase where there are `sizes`."""
    return Surface(fixed, lambda tokens: token * tokens, sizes)


def piecewise(seconds_at: Mapping[int, float], sizes: tuple[int, ...] = ()) -> Surface:
    """Straight lines between what was measured at some token counts; flat beyond them."""
    tokens = sorted(seconds_at)
    seconds = [seconds_at[count] for count in tokens]
    return Surface(0.0, lambda count: float(np.interp(count, tokens, seconds)), sizes)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of a step without noise.

    Decode steps whose requests carry equally many drafts are on `target`, all others (ragged ones, and those
    with prompt tokens) on `ragged`; None: there is but one surface. A draft pass costs `draft_pass` and
    `draft_request` for each request; at length 0 it runs once where `idle_drafts`, to keep the draft's KV
    cache current, unless the drafter is skipped.
    """

    target: Surface = field(default_factory=linear)
    ragged: Surface | None = None
    draft_pass: float = 0.002
    draft_request: float = 0.00002
    idle_drafts: bool = True
    context_token: float = 0.0
    prefill_token: float = 0.0

    def seconds(self, shape: Shape) -> float:
        no_graph = self.ragged if shape.ragged or shape.prefill_tokens else None
        surface = no_graph or self.target
        return (
            surface.seconds(shape.tokens)
            + self.context_token * shape.context_tokens
            + self.prefill_token * shape.prefill_tokens
            + self.draft_passes(shape) * (self.draft_pass + self.draft_request * shape.requests)
        )

    def draft_passes(self, shape: Shape) -> int:
        """How often the drafter runs in a step."""
        if shape.drafter_skipped:
            return 0
        return max(shape.proposal_length, 1) if self.idle_drafts else shape.proposal_length
