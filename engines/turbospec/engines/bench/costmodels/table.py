"""The results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from turbospec.engines.bench.costmodels.holdout import AXES, Errors, Judged, noise, simplest
from turbospec.engines.bench.costmodels.sources import Source
from turbospec.engines.profiling.fit import MEDIAN_GOAL, P95_GOAL


def render(source: Source, judged: Sequence[Judged]) -> Iterator[Table | str]:
    """What a person reads of one source."""
    for outermost in (False, True):
        if any(each.errors(outermost=outermost) for each in judged):
            yield _table(source, judged, outermost)
    uncertain = noise(source)
    if uncertain is not None:
        yield f"The cells' own times are uncertain by {uncertain:.1%} in the median."
    best = simplest(judged)
    if best is None:
        yield "No form keeps to the goals along every axis."
    else:
        yield f"The simplest form that keeps to the goals: {best.form}, with {best.size} numbers to learn."


def _table(source: Source, judged: Sequence[Judged], outermost: bool) -> Table:
    what = "outermost regions held out: extrapolation" if outermost else "inside of what is known"
    table = Table(
        title=f"{source.name}: {len(source.cells)} cells, {what}",
        caption="|error| on held-out cells, median / 95th percentile; "
        f"goals: {MEDIAN_GOAL:.0%} / {P95_GOAL:.0%}; * both met; size: numbers to learn",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("form", no_wrap=True)
    table.add_column("size", justify="right")
    axes = [axis for axis in AXES if any(each.errors(axis, outermost=outermost) for each in judged)]
    for axis in axes:
        table.add_column(axis, justify="right", no_wrap=True)
    for each in judged:
        errors = (each.errors(axis, outermost=outermost) for axis in axes)
        table.add_row(each.form, str(each.size), *map(_errors, errors))
    return table


def _errors(errors: Errors | None) -> str:
    if errors is None:
        return "-"
    return f"{errors.median:.1%} / {errors.p95:.1%}{' *' if errors.holds else '  '}"
