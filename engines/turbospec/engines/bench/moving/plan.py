"""What is measured, and how long that takes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from turbospec.engines.bench.e2e.schedule import REST_SECONDS
from turbospec.engines.bench.options import PAIRS

MOVING, MIXED, TEMPERATURES = "moving", "mixed", "temperatures"
PARTS = (MOVING, MIXED, TEMPERATURES)

NONE, IDLE, GOODPUT = "none", "idle", "goodput"
LONGEST_LENGTH = 6
STATICS = ("static:1", "static:2", "static:4", "static:6")
POLICIES = (NONE, *STATICS, GOODPUT)

LOAD = (1, 32, 1)
"""Requests at once in each phase of the part `moving`."""
MIX_CONCURRENCY = 8
PROMPT_TOKENS = 8
"""On a CPU a prompt's token costs as much as one decoded: a step of load is not to be all prefill."""
RAMP_SECONDS = 1.0
"""Before each window of a mix: requests are admitted, and plans of the new policy have taken effect."""
WARM_UP_SECONDS = 3.0
SETTLE_SECONDS = 8.0
"""Before the windows of a mix: goodput learns what its requests are like."""

# Measured on two cores: models, controller, and one engine, or three at once.
_SET_UP_SECONDS = {MOVING: 60.0, MIXED: 115.0, TEMPERATURES: 115.0}
_BETWEEN_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Options:
    """What a person chooses. `phase_seconds`: between two steps of load; `seconds`: a window of a mix."""

    parts: tuple[str, ...] = PARTS
    pairs: tuple[str, ...] = PAIRS
    phase_seconds: float = 25.0
    repeats: int = 4
    seconds: float = 4.0


@dataclass(frozen=True, slots=True)
class RequestClass:
    """Requests of a kind: a name, and what they ask for in the terms of the completions API."""

    name: str
    parameters: Mapping[str, object]


def orders(options: Options, part: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Of a mix, each repeat, counted from 1, with all policies in its order.

    Orders are random, and the same in every run with the same options. The static lengths, which share an
    engine, stay together: a change of engines costs a rest.
    """
    draw = random.Random(part)
    for repeat in range(1, options.repeats + 1):
        visits = [(NONE,), (GOODPUT,), tuple(draw.sample(STATICS, len(STATICS)))]
        draw.shuffle(visits)
        yield repeat, tuple(policy for visit in visits for policy in visit)


def planned_seconds(options: Options) -> float:
    """How long everything takes, about."""
    return sum(_part_seconds(options, part) for part in options.parts)


def _part_seconds(options: Options, part: str) -> float:
    if part == MOVING:
        warm_up = 2 * WARM_UP_SECONDS
        return len(options.pairs) * (_SET_UP_SECONDS[part] + warm_up + len(LOAD) * options.phase_seconds)
    warm_up = 2 * (WARM_UP_SECONDS + RAMP_SECONDS) + SETTLE_SECONDS
    window = RAMP_SECONDS + options.seconds + _BETWEEN_SECONDS
    repeat = 3 * REST_SECONDS + len(POLICIES) * window
    return _SET_UP_SECONDS[part] + warm_up + options.repeats * repeat
