"""What is measured, in which order, and how long that takes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from turbospec.engines.bench.options import PAIRS

COLD, WARM, OFF = "cold", "warm", "off"
ARMS = (COLD, WARM, OFF)
POLICIES = {COLD: "goodput", WARM: "goodput", OFF: "off"}
LONGEST_LENGTH = 6

LOADS = (1, 8, 32)
"""Requests at once: where drafts pay most, where they pay a little, and where they hardly do."""
PHASE_STEPS = 50
FIRST_VISITS, LATER_VISITS = 2, 1
"""How often each load comes in the first steps, and after them."""
FIRST_STEPS = FIRST_VISITS * len(LOADS) * PHASE_STEPS
PROMPT_TOKENS = 8
"""On a CPU a prompt's token costs as much as one decoded: phases are not to be all prefill."""
OUTPUT_TOKENS = (48, 144)
PROFILE_REPEATS = 3
PROFILE_CONTEXT = 32
"""Of the prompts while profiling; with what they are answered, about the load's."""
WARM_UP_SECONDS = 1.5

# On two cores, from the step times that `bench e2e` has found: models, controller and engine of a pair; the
# profile; a phase of each load, and a new controller, to which the engine connects again.
_SET_UP_SECONDS = 55.0
_PROFILE_SECONDS = 160.0
_TRIPLE_SECONDS = {COLD: 8.5, WARM: 8.5, OFF: 6.0}
_RESTART_SECONDS = {COLD: 5.0, WARM: 5.0, OFF: 0.5}


@dataclass(frozen=True, slots=True)
class Options:
    """What a person chooses. `profile` None: one is measured first."""

    pairs: tuple[str, ...] = PAIRS
    repeats: int = 4
    profile: Path | None = None


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """A phase of every repeat: the load, and how often it has come by then, this time included."""

    requests: int
    visit: int


FIRST = tuple(Cell(load, visit) for visit in range(1, FIRST_VISITS + 1) for load in LOADS)
LATER = tuple(Cell(load, FIRST_VISITS + visit) for visit in range(1, LATER_VISITS + 1) for load in LOADS)


@dataclass(frozen=True, slots=True)
class Repeat:
    """One turn of each arm, on the same load. `number` counts from 1."""

    number: int
    arms: tuple[str, ...]
    first: tuple[Cell, ...]
    later: tuple[Cell, ...]

    def cells(self, arm: str) -> tuple[Cell, ...]:
        """The phases of an arm: `off` does not change any more, so it is only needed for the first ones."""
        return self.first if arm == OFF else (*self.first, *self.later)


def repeats(options: Options, pair: str) -> Iterator[Repeat]:
    """One pair's. Orders of arms and of loads are random, and the same in every run with the same options."""
    draw = random.Random(pair)
    for number in range(1, options.repeats + 1):
        arms = tuple(draw.sample(ARMS, len(ARMS)))
        yield Repeat(number, arms, _shuffled(FIRST, draw), _shuffled(LATER, draw))


def repeat_seconds() -> float:
    """How long a repeat takes, about."""
    first = sum(FIRST_VISITS * _TRIPLE_SECONDS[arm] for arm in ARMS)
    later = sum(LATER_VISITS * _TRIPLE_SECONDS[arm] for arm in (COLD, WARM))
    return first + later + sum(_RESTART_SECONDS.values())


def planned_seconds(options: Options) -> float:
    """How long everything takes, about."""
    warm_up = 2 * len(LOADS) * WARM_UP_SECONDS
    pair = _SET_UP_SECONDS + warm_up + options.repeats * repeat_seconds()
    return len(options.pairs) * pair + (_PROFILE_SECONDS if options.profile is None else 0.0)


def _shuffled(cells: tuple[Cell, ...], draw: random.Random) -> tuple[Cell, ...]:
    """Visit by visit, each in an order of its own."""
    return tuple(sorted(draw.sample(cells, len(cells)), key=lambda cell: cell.visit))
