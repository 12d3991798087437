"""What is measured, and in which order: a grid of requests, contexts and lengths, visited at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from turbospec.engines.profiling.errors import OptionError
from turbospec.sidecar.core.types import Capabilities

VISIT_STEPS = 16
"""Steps measured in a visit to a cell: a median that single slow steps do not move."""
# Steps of a visit that are not measured: a new length takes effect within two or three.
SPARE_STEPS = 8

RESERVED_TOKENS = 2
"""Of an engine's context: SGLang cuts a request short that would fill the last two."""

# Decoding costs grow slowly with context: three points over the range of usual prompts say how.
_CONTEXTS = 3
_SHORTEST_CONTEXT = 128
# Longer prompts take long to compute, many times over; who serves them asks for them.
_LONGEST_CONTEXT = 8192
# Two sizes tell what a prompt's token costs from what it costs to have any beside decoding.
_PREFILL = (128, 512)
_SEED = "profile"


@dataclass(frozen=True, slots=True, order=True)
class Mode:
    """How the engine drafts: a length for all, or 0 without running the drafter."""

    length: int
    skip_drafter: bool = False

    @property
    def policy(self) -> str:
        """The policy that has it so."""
        return "off" if self.skip_drafter else f"static:{self.length}"

    def __str__(self) -> str:
        return "off" if self.skip_drafter else f"length {self.length}"


@dataclass(frozen=True, slots=True, order=True)
class Load:
    """What is sent: so many `requests` at once, each with a prompt of `context` tokens.

    `ragged`: every second one is capped at one draft less, so that their widths differ. `prefill`: while they
    decode, prompts of so many tokens come one after the other; 0: none.
    """

    requests: int
    context: int
    ragged: bool = False
    prefill: int = 0

    def __str__(self) -> str:
        plural = "s" if self.requests > 1 else ""
        beside = f" beside prompts of {self.prefill}" if self.prefill else ""
        ragged = ", ragged" if self.ragged else ""
        return f"{self.requests} request{plural} at context {self.context}{beside}{ragged}"


@dataclass(frozen=True, slots=True, order=True)
class PlannedCell:
    """Steps of one kind that are to be measured."""

    load: Load
    mode: Mode


@dataclass(frozen=True, slots=True)
class Range:
    """What a person asks for; None: what the engine allows. `contexts` are tokens of each prompt, `prefill`
    those of prompts beside decoding, besides none."""

    max_requests: int | None = None
    contexts: tuple[int, ...] | None = None
    prefill: tuple[int, ...] | None = ()


def make_grid(
    engine: Capabilities, max_context: int, wanted: Range, step_tokens: int = 0
) -> tuple[PlannedCell, ...]:
    """The cells. `step_tokens`: most tokens of one step, prompts' included; 0: not known.

    Raises OptionError where more is wanted than the engine has.
    """
    most = engine.max_batch if wanted.max_requests is None else wanted.max_requests
    if most > engine.max_batch:
        raise OptionError(
            f"--max-requests: at most {engine.max_batch}, the engine's largest batch, not {most}"
        )
    lengths = engine.candidate_lengths
    longest_prompt = max_context - RESERVED_TOKENS - room(max(lengths))
    if longest_prompt < 1:
        raise OptionError(
            f"the engine's context of {max_context} tokens is too short: a visit to a cell takes "
            f"{room(max(lengths)) + RESERVED_TOKENS} besides the prompt"
        )
    contexts = wanted.contexts or default_contexts(longest_prompt)
    if max(contexts) > longest_prompt:
        raise OptionError(
            f"--contexts: at most {longest_prompt}, the engine's {max_context} less what a visit takes, "
            f"not {max(contexts)}"
        )
    modes = [Mode(length) for length in lengths] + ([Mode(0, True)] if engine.deep_off else [])
    cells = [
        PlannedCell(Load(requests, context), mode)
        for requests in _doubling(most)
        for context in contexts
        for mode in modes
    ]
    if engine.ragged_breaks_graphs and engine.verification_per_request and max(lengths):
        cells += [
            PlannedCell(Load(requests, context, ragged=True), Mode(max(lengths)))
            for requests in _doubling(most)[1:]
            for context in contexts
        ]
    cells += [
        PlannedCell(load, mode)
        for load in _beside_prompts(engine, wanted.prefill, most, contexts, (max_context, step_tokens))
        for mode in modes
    ]
    return tuple(cells)


def _beside_prompts(
    engine: Capabilities,
    wanted: Sequence[int] | None,
    most: int,
    contexts: Sequence[int],
    limits: tuple[int, int],
) -> list[Load]:
    """Loads of steps that compute a prompt whole, at the shortest and the longest context: they take longer
    than others, and what a token of context costs needs no third point. `limits`: tokens of a context, and of
    a step (0: not known)."""
    max_context, step_tokens = limits
    width = 1 + max(engine.candidate_lengths)
    limit = max_context - 1
    if step_tokens:
        limit = min(limit, step_tokens - width)
    if wanted and engine.max_batch == 1:
        raise OptionError("--prefill: only 0, for this engine runs one request at a time")
    if wanted and max(wanted) > limit:
        raise OptionError(
            f"--prefill: at most {limit}, what a step of the engine computes beside one request, "
            f"not {max(wanted)}"
        )
    # A prompt needs a place in the batch beside the requests, and its tokens beside theirs.
    return [
        Load(requests, context, prefill=tokens)
        for requests in _doubling(min(most, engine.max_batch - 1))
        for context in sorted({min(contexts), max(contexts)})
        for tokens in (_PREFILL if wanted is None else wanted)
        if tokens <= limit and (not step_tokens or requests * width + tokens <= step_tokens)
    ]


def room(length: int) -> int:
    """Tokens that a request may receive in one visit at this length, at most."""
    return (VISIT_STEPS + SPARE_STEPS) * (1 + length)


def default_contexts(longest: int) -> tuple[int, ...]:
    """Prompts' lengths, evenly spread on a logarithmic scale, up to `longest` as far as that is usual."""
    high = min(longest, _LONGEST_CONTEXT)
    low = min(_SHORTEST_CONTEXT, max(high // 4, 1))
    ratio = (high / low) ** (1 / (_CONTEXTS - 1))
    return tuple(sorted({round(low * ratio**i) for i in range(_CONTEXTS)}))


def waves(cells: Sequence[PlannedCell], repeat: int) -> list[tuple[Load, tuple[PlannedCell, ...]]]:
    """One repeat's loads with their cells. The order is random, and the same in every run.

    Cells of one load are visited while the same requests run; the one without the drafter comes last, for
    after it they cannot speculate any more.
    """
    draw = random.Random(f"{_SEED}/{repeat}")
    loads = sorted({cell.load for cell in cells})
    found = []
    for load in draw.sample(loads, len(loads)):
        own = sorted(cell for cell in cells if cell.load == load)
        shuffled = draw.sample(own, len(own))
        found.append((load, tuple(sorted(shuffled, key=lambda cell: cell.mode.skip_drafter))))
    return found


def _doubling(most: int) -> list[int]:
    """1, 2, 4, ... and `most`; nothing for 0."""
    powers = [1 << i for i in range(most.bit_length())]
    return sorted({*powers, most} - {0})
