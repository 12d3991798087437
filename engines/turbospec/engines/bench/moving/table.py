"""The results as tables for a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from rich import box
from rich.table import Table
from turbospec.engines.bench.e2e.table import interval
from turbospec.engines.bench.moving.measured import Measured, MixMeasured
from turbospec.engines.bench.moving.plan import GOODPUT, MIX_CONCURRENCY, NONE, POLICIES
from turbospec.engines.bench.moving.timeline import Timeline


def render(measured: Measured) -> Iterator[Table | str]:
    """What a person reads."""
    if measured.timelines:
        yield _moving(measured.timelines)
    for mix in measured.mixes:
        yield _policies(mix)
        yield _classes(mix)


def _moving(timelines: list[Timeline]) -> Table:
    table = Table(
        title="Load that moves, under goodput",
        caption="length: median verification length in the last third of the phase",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("pair", "requests", "length", "tokens/s", "settled after"):
        table.add_column(heading, justify="left" if heading == "pair" else "right", no_wrap=True)
    for timeline in timelines:
        settled = ["-", *(_settled(step.settle_seconds) for step in timeline.steps())]
        for phase, after in zip(timeline.phases, settled, strict=True):
            length, speed = timeline.settled(phase)
            table.add_row(timeline.pair, str(phase.requests), _number(length), f"{speed:.0f}", after)
    return table


def _policies(mix: MixMeasured) -> Table:
    scores = mix.scores()
    table = Table(
        title=f"{mix.part}: tokens per second, {MIX_CONCURRENCY} requests at once",
        caption=f"with 90% intervals; {GOODPUT} over the best of the others, chosen on the other half of the "
        f"repeats: {interval(scores.over_best(GOODPUT))}",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("policy", "tokens/s", *(c.name for c in mix.classes), f"/ {NONE}", f"{GOODPUT} / this"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for policy in POLICIES:
        table.add_row(
            policy,
            f"{statistics.fmean(mix.speeds()[policy]):.0f}",
            *(f"{statistics.fmean(mix.class_speeds(policy, c.name)):.0f}" for c in mix.classes),
            f"{scores.over(policy, NONE).value:.2f}",
            interval(scores.over(GOODPUT, policy)) if policy != GOODPUT else "",
        )
    return table


def _classes(mix: MixMeasured) -> Table:
    table = Table(
        title=f"{mix.part}: what each class was given under {GOODPUT}",
        caption="planned: mean verification length in plans; verified: draft tokens per request and step; "
        "accepted: of those",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("class", "planned", "verified", "accepted"):
        table.add_column(heading, justify="left" if heading == "class" else "right", no_wrap=True)
    for of_class in mix.classes:
        given = mix.given(GOODPUT, of_class.name)
        ratio = given.acceptance_ratio
        table.add_row(
            of_class.name,
            _number(given.mean_planned_length),
            _number(given.mean_verified),
            "-" if ratio is None else f"{ratio:.0%}",
        )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _settled(seconds: float | None) -> str:
    return "not settled" if seconds is None else f"{seconds:.1f} s"
