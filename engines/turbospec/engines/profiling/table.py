"""The fit report for people."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from turbospec.engines.profiling.fit import FOLDS, MEDIAN_GOAL, P95_GOAL, FitReport, HeldOut
from turbospec.engines.profiling.measured import Measured
from turbospec.engines.profiling.sorting import Verdict
from turbospec.engines.profiling.statistics import KNOWN_WITHIN

_WORST_SHOWN = 5


def render(report: FitReport, measured: Measured) -> Iterator[RenderableType]:
    """What was measured and how well, errors by region, the worst cells, where the model extrapolates."""
    yield Text(_steps(measured))
    yield Text(_uncertainty(measured))
    for line in _gaps(measured):
        yield Text(line)
    if report.overall is None:
        yield Text("Too few cells to hold any out: there is no fit report.")
        return
    yield Text(
        f"\nErrors of the cost model on cells it was not fitted to ({FOLDS}-fold, by cell); "
        f"the goal is {MEDIAN_GOAL:.0%} in the median, {P95_GOAL:.0%} at the 95th percentile:"
    )
    yield _regions(report)
    overall = report.overall
    kept = overall.median <= MEDIAN_GOAL and overall.p95 <= P95_GOAL
    yield Text(f"The goal is {'kept' if kept else 'NOT kept'}.")
    yield Text("\nFurthest off:")
    yield _worst(report)
    for line in _extrapolation(report):
        yield Text(line)


def _steps(measured: Measured) -> str:
    counts = measured.steps
    left_out = [
        f"{counts[verdict]} {verdict.value}"
        for verdict in Verdict
        if verdict is not Verdict.MEASURED and counts[verdict]
    ]
    if measured.lost_steps:
        left_out.append(f"{measured.lost_steps} lost on the way here")
    return f"{counts[Verdict.MEASURED]} steps measured now; left out: {', '.join(left_out) or 'none'}."


def _uncertainty(measured: Measured) -> str:
    known = sum(map(measured.known, measured.planned))
    line = f"{known} of {len(measured.planned)} cells are known to {KNOWN_WITHIN:.0%}."
    told = [u for cell in measured.planned if (u := measured.uncertainty(cell)) is not None]
    if told:
        line += f" Their times are uncertain by {median(told):.1%} in the median, {max(told):.1%} at most."
    return line


def _gaps(measured: Measured) -> Iterator[str]:
    for load in sorted(measured.unreachable):
        yield f"The engine did not run {load} at once; this and larger loads are not measured."
    reachable = [cell for cell in measured.unvisited() if measured.reachable(cell.load)]
    if reachable:
        some = "; ".join(f"{cell.load}, {cell.mode}" for cell in reachable[:_WORST_SHOWN])
        more = f" and {len(reachable) - _WORST_SHOWN} more" if len(reachable) > _WORST_SHOWN else ""
        yield f"Not measured, for all steps had requests of others: {some}{more}."


def _regions(report: FitReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("region", no_wrap=True)
    for heading in ("cells", "median", "95%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for region in report.regions:
        table.add_row(region.name, str(region.cells), f"{region.median:.1%}", f"{region.p95:.1%}")
    return table


def _worst(report: FitReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    headings = ("requests", "length", "context each", "prompt", "measured ms", "predicted ms", "error")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for each in sorted(report.held_out, key=lambda held: -abs(held.error))[:_WORST_SHOWN]:
        table.add_row(*_row(each))
    return table


def _row(each: HeldOut) -> tuple[str, ...]:
    cell = each.cell
    notes = [name for name, holds in (("extrapolated", each.extrapolated), ("ragged", cell.ragged)) if holds]
    return (
        str(cell.requests),
        "off" if cell.drafter_skipped else str(cell.proposal_length),
        f"{cell.context_tokens / cell.requests:.0f}",
        str(cell.prefill_tokens or "-"),
        f"{1e3 * cell.seconds:.4g}",
        f"{1e3 * each.predicted_seconds:.4g}",
        f"{each.error:+.1%}",
        ", ".join(notes),
    )


def _extrapolation(report: FitReport) -> Iterator[str]:
    coverage = report.coverage
    beyond = [
        f"{what} above {measured} (the engine's limit: {limit})"
        for what, measured, limit in (
            ("requests", coverage.requests, coverage.engine_requests),
            ("target tokens", coverage.target_tokens, coverage.engine_target_tokens),
            ("context per request", coverage.context, coverage.engine_context),
        )
        if measured < limit
    ]
    if beyond:
        yield f"The model extrapolates at {'; '.join(beyond)}."
    if not coverage.prompt_tokens:
        yield "Steps with prompts were not measured: predictions of these start from steps without."
