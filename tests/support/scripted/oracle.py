"""The best that a world allows, by trying everything: what a controller should have found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate, product
from operator import mul

from support.scripted.costs import Costs, Shape
from support.scripted.recording import Recording, run_fixed
from support.scripted.traffic import TrafficClass
from support.scripted.world import World, uniform_plan
from turbospec.sidecar.core.types import Disturbance

# The first steps have no drafts yet.
WARM_UP_STEPS = 5


def static_goodputs(make_world: Callable[[], World], steps: int = 1000) -> dict[int, float]:
    """Tokens per second of every static length, each in a fresh world without a controller."""
    goodputs = {}
    for length in make_world().capabilities.candidate_lengths:
        world = make_world()
        run_fixed(world, uniform_plan(length), WARM_UP_STEPS)
        goodputs[length] = run_fixed(world, uniform_plan(length), steps).goodput
    return goodputs


def expected_tokens(traffic: TrafficClass, verified: int) -> float:
    """Tokens that a request of this class gets on average from a step that verifies so many drafts."""
    survivals = accumulate((traffic.hazard(position) for position in range(verified)), mul)
    return 1.0 + float(sum(survivals))


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Expected tokens over stated seconds, of the same batches: no luck of draws or noise in any of them.

    `found`: with the lengths that were used; `uniform`: with the best length for all; `best`: with the best
    length for each class.
    """

    found: float
    uniform: float
    best: float


def efficiency(recording: Recording, world: World, *, mixed: bool = False) -> Efficiency:
    """What came of the undisturbed steps of a recording, beside what was possible, by brute force.

    Classes are told apart by label, and every length from 0 to the longest is tried for each. `mixed`: of
    steps with prompts, as if these were free: whatever the lengths, as many come with as many tokens.
    """
    wanted = {Disturbance.PREFILL} if mixed else set()
    traffic = {each.label: each for each in world.traffic}
    lengths = world.capabilities.candidate_lengths
    costs = world.machine.costs

    @cache
    def tried(batch: tuple[tuple[str, int], ...], context_tokens: int) -> tuple[_Rate, _Rate]:
        by_class = [
            _rate(traffic, costs, dict(batch), dict(zip(dict(batch), chosen, strict=True)), context_tokens)
            for chosen in product(lengths, repeat=len(batch))
        ]
        uniform = [
            _rate(traffic, costs, dict(batch), dict.fromkeys(dict(batch), length), context_tokens)
            for length in lengths
        ]
        return max(uniform, key=_Rate.goodput), max(by_class, key=_Rate.goodput)

    found, uniform, best = [], [], []
    for step in recording.steps:
        if step.disturbances != wanted or not step.requests:
            continue
        tokens = sum(
            expected_tokens(traffic[info.label], verified)
            for info, verified in zip(step.requests, step.verified, strict=True)
        )
        found.append(_Rate(tokens, costs.seconds(replace(step.shape, prefill_tokens=0))))
        batch = tuple(sorted(Counter(info.label for info in step.requests).items()))
        # Context depends on no length: batches that differ in it only differ where it costs something.
        of_batch = tried(batch, step.shape.context_tokens if costs.context_token else 0)
        uniform.append(of_batch[0])
        best.append(of_batch[1])
    return Efficiency(_mean(found), _mean(uniform), _mean(best))


@dataclass(frozen=True, slots=True)
class _Rate:
    tokens: float
    seconds: float

    def goodput(self) -> float:
        return self.tokens / self.seconds


def _mean(rates: Iterable[_Rate]) -> float:
    rates = list(rates)
    return sum(rate.tokens for rate in rates) / sum(rate.seconds for rate in rates)


def _rate(
    traffic: Mapping[str, TrafficClass],
    costs: Costs,
    batch: Mapping[str, int],
    lengths: Mapping[str, int],
    context_tokens: int,
) -> _Rate:
    """A step of so many requests by label, with a length for each label."""
    requests = sum(batch.values())
    shape = Shape(
        requests=requests,
        tokens=requests + sum(count * lengths[label] for label, count in batch.items()),
        context_tokens=context_tokens,
        proposal_length=max(lengths.values()),
        ragged=len(set(lengths.values())) > 1,
    )
    tokens = sum(count * expected_tokens(traffic[label], lengths[label]) for label, count in batch.items())
    return _Rate(tokens, costs.seconds(shape))
