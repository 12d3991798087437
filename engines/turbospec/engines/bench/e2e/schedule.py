"""What is measured, in which order, and how long that takes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from turbospec.engines.bench.options import PAIRS

NONE, IDLE, OFF, GOODPUT = "none", "idle", "off", "goodput"
TABLE, ADAPTIVE = "table", "adaptive"
VLLM, SGLANG = "vllm", "sglang"
LONGEST_LENGTH = 6
STATICS = tuple(f"static:{length}" for length in range(1, LONGEST_LENGTH + 1))

REST_SECONDS = 1.2
"""Before another engine gets the load: for a second after its last step, vLLM's processes on a CPU still
poll without a pause, and take the cores from the next engine.
"""
RAMP_SECONDS = 1.0
"""Before each window: requests are admitted, and plans of the new policy have taken effect."""
SETTLE_SECONDS = 1.5
"""Before each window of `goodput`, beside the ramp: its last one was under another load. How soon it adapts
is another question than how good it is then; the other policies have nothing to adapt.
"""
_BETWEEN_SECONDS = 0.15  # connections, counters, the aborts of what still ran
# Once per pair, beside its blocks, measured on two cores: models and four engines, and for each concurrency
# the calibration and the warm-up.
_START_SECONDS = 95.0
_CALIBRATE_SECONDS = 40.0
_SLOWER = 2.0  # SGLang's steps on a CPU, with stand-ins for its operators, and what comes before windows


@dataclass(frozen=True, slots=True)
class Options:
    """What a person chooses, and what follows from the engine. `seconds` is the length of a window."""

    pairs: tuple[str, ...] = PAIRS
    concurrencies: tuple[int, ...] = (1, 4, 16, 32)
    repeats: int = 6
    seconds: float = 2.6
    engine: str = VLLM

    @property
    def fixed(self) -> tuple[str, ...]:
        """The policies that share an engine: it has nothing to learn from any of them."""
        return (IDLE, *([OFF] if self.engine == VLLM else []), *STATICS)

    @property
    def own(self) -> str:
        """What the engine has of its own to choose lengths with, without TurboSpec."""
        return TABLE if self.engine == VLLM else ADAPTIVE

    @property
    def policies(self) -> tuple[str, ...]:
        """All of them."""
        return (NONE, *self.fixed, self.own, GOODPUT)

    @property
    def pace(self) -> float:
        """How many times as long as vLLM's the engine's ramps and pauses are."""
        return 1.0 if self.engine == VLLM else _SLOWER


@dataclass(frozen=True, slots=True)
class Block:
    """All policies at one concurrency, next to each other in time. `repeat` counts from 1."""

    repeat: int
    concurrency: int
    policies: tuple[str, ...]


def blocks(options: Options, pair: str) -> Iterator[Block]:
    """One pair's blocks. Orders are random, and the same in every run with the same options.

    Policies that share an engine stay together: a change of engines costs a rest.
    """
    draw = random.Random(pair)
    for repeat in range(1, options.repeats + 1):
        for concurrency in draw.sample(options.concurrencies, len(options.concurrencies)):
            fixed = tuple(draw.sample(options.fixed, len(options.fixed)))
            visits = [(NONE,), (options.own,), (GOODPUT,), fixed]
            draw.shuffle(visits)
            yield Block(repeat, concurrency, tuple(policy for visit in visits for policy in visit))


def block_seconds(options: Options) -> float:
    """How long a block takes."""
    ramp = options.pace * RAMP_SECONDS + _BETWEEN_SECONDS
    settling = ramp + options.pace * SETTLE_SECONDS
    return 4 * REST_SECONDS + settling + len(options.policies) * (ramp + options.seconds)


def planned_seconds(options: Options) -> float:
    """How long everything takes, about."""
    per_concurrency = _CALIBRATE_SECONDS + options.repeats * block_seconds(options)
    start = options.pace * _START_SECONDS
    return len(options.pairs) * (start + len(options.concurrencies) * per_concurrency)
