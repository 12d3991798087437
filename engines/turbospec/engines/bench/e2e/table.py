"""The results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.table import Table
from turbospec.engines.bench.e2e.measured import Measured
from turbospec.engines.bench.e2e.schedule import GOODPUT, NONE
from turbospec.engines.bench.e2e.scoring import Estimate, Scores
from turbospec.engines.bench.e2e.targets import targets


def render(measured: Measured, scores: Scores) -> Iterator[Table | str]:
    """What a person reads, from the whole to the verdict."""
    yield _policies(measured, scores)
    yield _cells(measured, scores)
    yield from _calibrations(measured)
    yield _targets(scores)


def _policies(measured: Measured, scores: Scores) -> Table:
    table = Table(
        title="Tokens per second relative to no speculation (none: in tokens per second)",
        caption=f"of best: relative to the best of {NONE} and the static lengths in each cell, chosen on the "
        "other half of the repeats; geometric mean",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("policy", no_wrap=True)
    for pair, concurrency in scores.cells:
        table.add_column(f"{pair}\n{concurrency}", justify="right", no_wrap=True)
    table.add_column("of\nbest", justify="right", no_wrap=True)
    for policy in measured.options.policies:
        relative = [f"{scores.over(policy, NONE, [cell]).value:.2f}" for cell in scores.cells]
        if policy == NONE:
            relative = [f"{_mean(measured.speeds()[cell][NONE]):.0f}" for cell in scores.cells]
        table.add_row(policy, *relative, f"{scores.over_best(policy).value:.3f}")
    return table


def _cells(measured: Measured, scores: Scores) -> Table:
    table = Table(
        title=f"{GOODPUT} by cell, with 90% intervals",
        caption="best: length, by the odd repeats / by the even ones; verified: drafts per request and step",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading in ("cell", "best", f"{GOODPUT} / best", f"{GOODPUT} / {NONE}", "verified"):
        table.add_column(heading, no_wrap=True, justify="left" if heading in ("cell", "best") else "right")
    for cell in scores.cells:
        odd, even = (policy.removeprefix("static:") for policy in scores.chosen(cell))
        table.add_row(
            f"{cell[0]} at {cell[1]}",
            odd if odd == even else f"{odd} / {even}",
            interval(scores.over_best(GOODPUT, [cell])),
            interval(scores.over(GOODPUT, NONE, [cell])),
            f"{measured.mean_length(cell, GOODPUT):.1f}",
        )
    return table


def _calibrations(measured: Measured) -> Iterator[str]:
    for pair, calibration in measured.calibrations.items():
        entries = ", ".join(f"{first}-{last}: {length}" for first, last, length in calibration.entries)
        yield f"vLLM's own table for {pair}, calibrated beforehand (batch sizes: length): {entries}"
    if measured.repeated:
        yield f"{measured.repeated} window(s) measured again: the engine had not followed the policy."


def _targets(scores: Scores) -> Table:
    table = Table(title="Targets", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "measured", "target", ""):
        table.add_column(heading, no_wrap=bool(heading))
    for target in targets(scores):
        bound = f"{'>' if target.exceed else '>='} {target.bound:.2f}"
        table.add_row(target.name, interval(target.estimate), bound, "met" if target.met else "missed")
    return table


def interval(estimate: Estimate) -> str:
    """Such as `0.981 0.970-0.992`."""
    return f"{estimate.value:.3f} {estimate.low:.3f}-{estimate.high:.3f}"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
