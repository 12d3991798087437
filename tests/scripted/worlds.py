"""Worlds that tests share."""

from __future__ import annotations

from support.scripted.costs import Costs, Surface, linear
from support.scripted.hello import declared
from support.scripted.machine import Machine
from support.scripted.traffic import TrafficClass
from support.scripted.world import World

LINEAR = Costs(linear(0.020, 0.001), prefill_token=2e-5)

# As an engine captures them: small ones, then every eighth.
GRAPH_SIZES = (1, 2, 4, *range(8, 257, 8))

AGREEING = TrafficClass((0.75, 0.75, 0.8))
EVEN = TrafficClass((0.7,))
COPYING = TrafficClass((0.92,), label="copying")
CHATTING = TrafficClass((0.25,), label="chatting", output_tokens=128)


def world_of(
    costs: Costs,
    traffic: list[TrafficClass],
    concurrency: int,
    *,
    seed: int = 1,
    prefill: bool = True,
    lag: int = 1,
    deep_off: bool = False,
    **machine: object,
) -> World:
    """An engine that truly says which graphs it has."""
    engine = declared(costs, plan_delay_steps=lag, deep_off=deep_off)
    return World(engine, traffic, concurrency, Machine(costs, **machine), prefill=prefill, seed=seed)  # type: ignore[arg-type]


def with_graphs(token: float, ragged_step: float, sizes: tuple[int, ...] = GRAPH_SIZES) -> Costs:
    """A GPU's costs: a staircase for uniform decode batches, and piecewise graphs, of the same sizes, for
    ragged ones, whose steps take `ragged_step` longer."""
    target = linear(0.010, token, sizes)
    ragged = Surface(target.fixed + ragged_step, target.curve, sizes)
    return Costs(target, ragged, draft_pass=0.0005, draft_request=0.0, prefill_token=1e-5)
