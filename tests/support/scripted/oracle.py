"""The best that a world allows, by trying everything in worlds of the same making."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product

from support.scripted.recording import run_fixed
from support.scripted.world import Plan, World, uniform_plan

# The first steps have no drafts yet.
WARM_UP_STEPS = 5

MakeWorld = Callable[[], World]


def goodput_under(make_world: MakeWorld, plan: Plan, steps: int) -> float:
    """Tokens per second of a fresh world under one plan."""
    world = make_world()
    run_fixed(world, plan, WARM_UP_STEPS)
    return run_fixed(world, plan, steps).goodput


def static_goodputs(make_world: MakeWorld, steps: int = 1000) -> dict[int, float]:
    """Tokens per second of every static length."""
    lengths = make_world().capabilities.candidate_lengths
    return {length: goodput_under(make_world, uniform_plan(length), steps) for length in lengths}


def best_static(make_world: MakeWorld, steps: int = 1000) -> tuple[int, float]:
    """The best static length, and its tokens per second."""
    goodputs = static_goodputs(make_world, steps)
    best = max(goodputs, key=goodputs.__getitem__)
    return best, goodputs[best]


def plan_by_label(lengths: Mapping[str, int]) -> Plan:
    """Each class of requests verifies its own length."""
    return Plan(max(lengths.values()), lambda info: lengths[info.label])


def best_by_class(
    make_world: MakeWorld, lengths: Sequence[int], steps: int = 1000
) -> tuple[dict[str, int], float]:
    """The best of all combinations of `lengths`, one for each label, and its tokens per second."""
    labels = sorted({traffic.label for traffic in make_world().traffic})
    found = {
        chosen: goodput_under(make_world, plan_by_label(dict(zip(labels, chosen, strict=True))), steps)
        for chosen in product(lengths, repeat=len(labels))
    }
    best = max(found, key=found.__getitem__)
    return dict(zip(labels, best, strict=True)), found[best]
