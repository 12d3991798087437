"""The parts of the benchmark, and how large all is: on an accelerator, and on a CPU to try the logic."""

from __future__ import annotations

from dataclasses import dataclass

HIGH, LOW = "high", "low"
AGREEMENTS = {HIGH: 0.75, LOW: 0.4}
"""Share of first drafts that the target accepts, by name."""
LAYERS, ONE_BILLION, NGRAM = "layers", "1b", "ngram"
METHODS = (LAYERS, ONE_BILLION, NGRAM)
"""Drafts: the target's first layers, a model of 1B's shape, or what the text itself repeats."""

MODELS, COST, SUMMARY, PAGE = "models", "cost", "summary", "page"
STEP_TIME, TUNE, CELLS, VARYING = "step-time", "tune", "cells", "varying"
MODES = ("sync", "async")

PARTS = (
    MODELS,
    *(f"{STEP_TIME}-{mode}" for mode in reversed(MODES)),
    COST,
    *(
        f"{kind}-{method}-{agreement}"
        for method in METHODS
        for agreement in AGREEMENTS
        for kind in (TUNE, CELLS, *([VARYING] if method == LAYERS else []))
    ),
    SUMMARY,
    PAGE,
)
"""Each after what it needs, and what tells most first: a device may be there for half an hour."""
ALWAYS_ANEW = (SUMMARY, PAGE)
"""They are of the other parts, whichever there are by then."""

MOST_PART_SECONDS = 8 * 60.0
LIMIT_SECONDS = 7.5 * 60.0
"""By then a part has measured: it begins no repeat that would take longer, and what it has is its result."""

NONE, TABLE, GOODPUT, ADAPTIVE = "none", "table", "goodput", "adaptive"
LONGEST_LENGTH = 5
"""Of the engines that serve; every one up to it is measured."""
STATICS = tuple(f"static:{length}" for length in range(1, LONGEST_LENGTH + 1))
STEP_LENGTH = 8
"""The longest of which step times are measured."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes. `pairs`: of `instant_models`, by method. `engine_seconds`: what engines may take to start.

    A window of load is `window_seconds` after `ramp_seconds`; of `goodput`, after `settle_seconds` more.
    `phases`: requests at once of load that varies, `phase_seconds` each. `step_requests`: by tokens of
    context, where step times are measured; no more than `step_context_tokens` together.
    """

    name: str
    pairs: dict[str, str]
    concurrencies: tuple[int, ...]
    max_requests: int
    max_context: int
    prompt_tokens: int
    output_tokens: tuple[int, int]
    engine_seconds: float
    ramp_seconds: float
    window_seconds: float
    settle_seconds: float
    rest_seconds: float
    repeats: int
    phases: tuple[int, ...]
    phase_seconds: float
    varying_repeats: int
    step_requests: dict[int, tuple[int, ...]]
    step_context_tokens: int
    step_repeats: int
    visit_steps: int
    agreement_requests: int
    agreement_steps: int
    on_accelerator: bool


FULL = Scale(
    name="full",
    pairs={LAYERS: "8b-layers", ONE_BILLION: "8b-1b", NGRAM: "8b-layers"},
    concurrencies=(1, 16, 64, 256),
    max_requests=256,
    max_context=2048,
    prompt_tokens=32,  # 256 of them are computed within the ramp
    output_tokens=(64, 192),
    engine_seconds=400.0,
    ramp_seconds=0.5,
    window_seconds=0.8,
    settle_seconds=1.5,
    rest_seconds=0.1,
    repeats=4,
    phases=(1, 64, 8, 256, 1),
    phase_seconds=5.0,
    varying_repeats=2,
    step_requests={
        128: (1, 2, 4, 8, 16, 32, 64, 128, 256),
        1024: (1, 4, 16, 64, 256),
        4096: (1, 4, 16, 64),
        7680: (1, 4, 16, 32),
    },
    step_context_tokens=262_144,
    step_repeats=3,
    visit_steps=10,
    agreement_requests=64,
    agreement_steps=40,
    on_accelerator=True,
)

SMALL = Scale(
    name="small",
    pairs={LAYERS: "small-layers", ONE_BILLION: "small-1b", NGRAM: "small-layers"},
    concurrencies=(1, 4),
    max_requests=8,
    max_context=512,
    prompt_tokens=8,
    output_tokens=(32, 96),
    engine_seconds=300.0,
    ramp_seconds=0.2,
    window_seconds=0.6,
    settle_seconds=0.4,
    rest_seconds=0.1,
    repeats=4,
    phases=(1, 8, 1),
    phase_seconds=1.5,
    varying_repeats=1,
    step_requests={16: (1, 2, 4, 8), 128: (1, 4)},
    step_context_tokens=1024,
    step_repeats=3,
    visit_steps=5,
    agreement_requests=8,
    agreement_steps=24,
    on_accelerator=False,
)


def method_and_agreement(part: str) -> tuple[str, str]:
    """Of the parts that have them, such as `cells-1b-low`."""
    _, method, agreement = part.split("-")
    return method, agreement
