"""The results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean, geometric_mean

from rich import box
from rich.table import Table
from turbospec.engines.bench.coldstart.measured import Measured, Phase, cells_of
from turbospec.engines.bench.coldstart.plan import ARMS, COLD, FIRST, FIRST_STEPS, LATER, OFF, WARM, Cell
from turbospec.engines.bench.coldstart.targets import ratios
from turbospec.engines.bench.e2e.table import interval


def render(measured: Measured) -> Iterator[Table | str]:
    """What a person reads."""
    for pair in measured.runs:
        yield _phases(measured, pair)
    if measured.repeated:
        yield f"{measured.repeated} run(s) made again: the engine had not followed the policy."
    yield _ratios(measured)


def _phases(measured: Measured, pair: str) -> Table:
    table = Table(
        title=f"{pair} agreement: tokens per second by phase, mean of {measured.options.repeats} repeats",
        caption=f"above the line: the first {FIRST_STEPS} steps; length: mean verified at the end; "
        "(n): then the drafter was skipped in n of the repeats",
        box=box.SIMPLE_HEAD,
    )
    ratios_and_lengths = ("cold/\noff", "cold/\nwarm", "length\ncold", "length\nwarm")
    for heading in ("requests", "visit", *ARMS, *ratios_and_lengths):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in (*FIRST, *LATER):
        table.add_row(*_row(measured, pair, cell), end_section=cell == FIRST[-1])
    return table


def _row(measured: Measured, pair: str, cell: Cell) -> tuple[str, ...]:
    phases = {arm: measured.phases(pair, arm, cell) for arm in ARMS if cell in cells_of(arm)}
    speeds = {arm: geometric_mean(p.tokens_per_second for p in found) for arm, found in phases.items()}
    return (
        str(cell.requests),
        str(cell.visit),
        *(f"{speeds[arm]:.0f}" if arm in speeds else "" for arm in ARMS),
        *(f"{speeds[COLD] / speeds[arm]:.2f}" if arm in speeds else "" for arm in (OFF, WARM)),
        *(_length(phases[arm]) for arm in (COLD, WARM)),
    )


def _length(phases: list[Phase]) -> str:
    lengths = [p.mean_verification_length for p in phases if p.mean_verification_length is not None]
    skipped = sum(phase.drafter_skipped for phase in phases)
    mean = f"{fmean(lengths):.1f}" if lengths else "-"
    return f"{mean} ({skipped})" if skipped else mean


def _ratios(measured: Measured) -> Table:
    table = Table(title="Targets, with 90% intervals", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("pair", "", "measured", "target", ""):
        table.add_column(heading, no_wrap=bool(heading))
    verdicts = {True: "met", False: "missed", None: ""}
    for pair in measured.runs:
        for each in ratios(measured, pair):
            target = "" if each.least is None else f">= {each.least:.2f}"
            table.add_row(pair, each.name, interval(each.estimate), target, verdicts[each.met])
    return table
