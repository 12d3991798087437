"""Pictures of what the parts measured, from their results: throughput, load that varies, step times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter
from turbospec.engines.bench.gpu.plan import (
    ADAPTIVE,
    CELLS,
    GOODPUT,
    NONE,
    STATICS,
    STEP_TIME,
    TABLE,
    VARYING,
)
from turbospec.engines.bench.gpu.reading import Cell, cells_of, parts_of

_PLAIN = StrMethodFormatter("{x:g}")
_COLOURS = {GOODPUT: "#1f5fa8", NONE: "#555555", TABLE: "#c0392b", ADAPTIVE: "#2c7a3f"}
_GRID: dict[str, Any] = {"color": "#dddddd", "linewidth": 0.6}
_GOAL = 0.05
_NAME_INCHES = 1.3


def draw(results: Mapping[str, dict[str, Any]], folder: Path) -> dict[str, str]:
    """Writes a picture of each kind of parts that is there; file names by kind.

    `results`: by part. Raises OSError where a picture cannot be written.
    """
    drawn = {}
    for kind, figure_of in ((CELLS, _cells), (VARYING, _varying), (STEP_TIME, _step_times)):
        if parts := parts_of(results, kind):
            drawn[kind] = f"gpu-{kind}.png"
            figure_of(parts).savefig(folder / drawn[kind])
    return drawn


def _cells(parts: Mapping[str, dict[str, Any]]) -> Figure:
    """A column for each part: tokens per second over those of `none`, and time per token."""
    figure = Figure(figsize=(3.6 * max(len(parts), 2), 6.4), dpi=100, layout="constrained")
    axes = figure.subplots(2, len(parts), squeeze=False, sharex="col", sharey="row")
    for column, (name, result) in enumerate(parts.items()):
        cells = cells_of(result)
        ratios, times = axes[0][column], axes[1][column]
        for policy in _policies(cells):
            own = [cell for cell in cells if policy in cell.tokens_per_second]
            numbers = [cell.concurrency for cell in own]
            ratios.plot(
                numbers,
                [cell.tokens_per_second[policy] / cell.tokens_per_second[NONE] for cell in own],
                label=policy,
                **_style(policy),
            )
            known = [(cell.concurrency, cell.milliseconds_per_token.get(policy)) for cell in own]
            told = [(number, value) for number, value in known if value is not None]
            times.plot([number for number, _ in told], [value for _, value in told], **_style(policy))
        ratios.set_title(name.removeprefix(f"{CELLS}-"), fontsize=10)
        times.set_xlabel("requests at once")
        for panel in (ratios, times):
            panel.set_xscale("log", base=2)
            panel.set_xticks([cell.concurrency for cell in cells])
            panel.xaxis.set_major_formatter(_PLAIN)
            panel.grid(**_GRID)
    axes[0][0].set_ylabel("tokens per second, over none")
    axes[1][0].set_ylabel("milliseconds per token")
    axes[1][0].set_ylim(bottom=0)
    _name_lines(figure, axes[0][0])
    return figure


def _varying(parts: Mapping[str, dict[str, Any]]) -> Figure:
    """A panel for each part: tokens per second over those of `none`, by phase."""
    figure = Figure(figsize=(5.4 * max(len(parts), 1), 4.0), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(parts), squeeze=False, sharey="row")[0]
    for panel, (name, result) in zip(panels, parts.items(), strict=True):
        speeds = {
            policy: [sum(phase) / len(phase) for phase in zip(*runs, strict=True)]
            for policy, runs in result["tokens_per_second_by_phase"].items()
        }
        for policy in (NONE, *STATICS, GOODPUT):
            ratios = [speed / plain for speed, plain in zip(speeds[policy], speeds[NONE], strict=True)]
            panel.plot(range(len(ratios)), ratios, label=policy, **_style(policy))
        panel.set_xticks(range(len(result["phases"])), [str(phase["requests"]) for phase in result["phases"]])
        panel.set_title(name.removeprefix(f"{VARYING}-"), fontsize=10)
        panel.set_xlabel("requests at once, phase after phase")
        panel.grid(**_GRID)
    panels[0].set_ylabel("tokens per second, over none")
    _name_lines(figure, panels[0])
    return figure


def _step_times(parts: Mapping[str, dict[str, Any]]) -> Figure:
    """A row for each part: times at the shortest and at the longest contexts, and the model's errors."""
    figure = Figure(figsize=(13, 4.2 * len(parts)), dpi=100, layout="constrained")
    rows = figure.subplots(len(parts), 3, squeeze=False)
    for (short, long, errors), (name, result) in zip(rows, parts.items(), strict=True):
        held = result["fit"]["held_out"]
        uniform = [each for each in held if not each["ragged"]]
        # Requests have prompts of so many tokens; a cell's context is longer by what was decoded until then.
        prompts = sorted(map(int, result["settings"]["step_requests"]))
        _times(short, [each for each in uniform if _context(each) < prompts[1]])
        _times(long, [each for each in uniform if _context(each) >= prompts[-1]])
        short.set_title(f"{name}: prompts of {prompts[0]} tokens", fontsize=10)
        long.set_title(f"prompts of {prompts[-1]} tokens", fontsize=10)
        short.set_ylabel("milliseconds per step")
        _errors(errors, held)
    _name_lines(figure, rows[0][0])
    return figure


def _times(panel: Axes, cells: Sequence[dict[str, Any]]) -> None:
    """Measured times as points, predicted ones as crosses: each by a model that was not fitted to it."""
    longest = max((cell["proposal_length"] for cell in cells), default=0) or 1
    for length in sorted({cell["proposal_length"] for cell in cells}):
        own = sorted((cell for cell in cells if cell["proposal_length"] == length), key=_requests)
        colour = colormaps["viridis"](0.9 * length / longest)
        numbers = [_requests(cell) for cell in own]
        measured, predicted = ([cell[name] for cell in own] for name in ("measured_ms", "predicted_ms"))
        panel.plot(numbers, measured, "o", markersize=4, color=colour, label=f"length {length}")
        panel.plot(numbers, predicted, "x", markersize=5, color=colour)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log", base=2)
    panel.xaxis.set_major_formatter(_PLAIN)
    panel.yaxis.set_major_formatter(_PLAIN)
    panel.set_xlabel("requests (points: measured, crosses: predicted)")
    panel.grid(**_GRID)


def _errors(panel: Axes, cells: Sequence[dict[str, Any]]) -> None:
    for ragged, colour, label in ((False, "#1f5fa8", "one width"), (True, "#c0392b", "ragged")):
        own = [cell for cell in cells if cell["ragged"] == ragged]
        errors = [cell["predicted_ms"] / cell["measured_ms"] - 1 for cell in own]
        panel.scatter(
            [cell["measured_ms"] for cell in own], errors, s=14, color=colour, label=label, linewidths=0
        )
    for goal in (-_GOAL, _GOAL):
        panel.axhline(goal, color="black", linewidth=0.8, linestyle="--")
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter(_PLAIN)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.set_title("predicted over measured, cells held out", fontsize=10)
    panel.set_xlabel("measured milliseconds per step")
    panel.legend(frameon=False, fontsize=9)
    panel.grid(**_GRID)


def _policies(cells: Sequence[Cell]) -> list[str]:
    """Those that were measured; `goodput` last, so that it is drawn on top."""
    there = {policy for cell in cells for policy in cell.tokens_per_second}
    return [policy for policy in (NONE, *STATICS, TABLE, ADAPTIVE, GOODPUT) if policy in there]


def _style(policy: str) -> dict[str, Any]:
    if policy in STATICS:
        shade = colormaps["YlOrBr"](0.25 + 0.5 * STATICS.index(policy) / len(STATICS))
        return {"color": shade, "linewidth": 1.0, "marker": ".", "markersize": 4}
    return {"color": _COLOURS[policy], "linewidth": 1.8, "marker": "o", "markersize": 4}


def _name_lines(figure: Figure, panel: Axes) -> None:
    handles, labels = panel.get_legend_handles_labels()
    columns = int(figure.get_figwidth() / _NAME_INCHES)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def _requests(cell: Mapping[str, Any]) -> int:
    return int(cell["requests"])


def _context(cell: Mapping[str, Any]) -> float:
    return float(cell["context_tokens"] / cell["requests"])
