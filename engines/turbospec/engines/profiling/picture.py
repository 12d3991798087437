"""The profile as a picture: times by requests, times by context, and the model's errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter
from turbospec.engines.profiling.fit import (
    MEDIAN_GOAL,
    P95_GOAL,
    FitReport,
    Mode,
    fit,
    mode_of,
    predict,
)
from turbospec.sidecar.core.types import Capabilities
from turbospec.sidecar.profiles.profile import Cell

_POINTS = 60
# Contexts within this many times the shortest are alike: a step's time hardly depends on them.
_ALIKE = 4.0
_PLAIN = StrMethodFormatter("{x:g}")
_INSIDE, _EXTRAPOLATED, _OFF = "#1f5fa8", "#c0392b", "#555555"


def draw(cells: Sequence[Cell], report: FitReport, engine: Capabilities, file: Path) -> None:
    """Writes the picture; the format is by the file's name. Raises OSError where it cannot be written."""
    figure(cells, report, engine).savefig(file)


def figure(cells: Sequence[Cell], report: FitReport, engine: Capabilities) -> Figure:
    """The picture: every length, and the drafter off, that was measured without prompts."""
    decode = [cell for cell in cells if not cell.prefill_tokens and not cell.ragged]
    model = fit(decode, engine)
    picture = Figure(figsize=(15, 4.8), dpi=100, layout="constrained")
    by_requests, by_context, errors = picture.subplots(1, 3)

    def predicted(cell: Cell) -> float:
        return predict(model, cell)

    lowest = _with_short_contexts(decode)
    _times(by_requests, lowest, lambda cell: float(cell.requests), _with_requests, predicted)
    low, high = min(map(_context, lowest)), max(map(_context, lowest))
    by_requests.set_title(f"contexts of {low:.0f} to {high:.0f} tokens", fontsize=10)
    by_requests.set_xlabel("requests")
    crowd = max(cell.requests for cell in decode if _context(cell) >= 0.5 * max(map(_context, decode)))
    crowded = [cell for cell in decode if cell.requests == crowd]
    _times(by_context, crowded, _context, _with_context, predicted)
    by_context.set_title(f"{crowd} requests", fontsize=10)
    by_context.set_xlabel("context per request, in tokens")
    by_requests.set_ylabel("milliseconds per step")
    _errors(errors, report)
    named = [panel.get_legend_handles_labels() for panel in (by_requests, by_context)]
    handles = {label: handle for pair in named for handle, label in zip(*pair, strict=True)}
    picture.legend(handles.values(), handles, loc="outside lower center", ncols=10, frameon=False, fontsize=9)
    return picture


def _times(
    panel: Axes,
    cells: Sequence[Cell],
    at: Callable[[Cell], float],
    moved: Callable[[Cell, float], Cell],
    predicted: Callable[[Cell], float],
) -> None:
    """Measured times with their spread as points, the model's as lines: one colour for each length."""
    modes = sorted({mode_of(cell) for cell in cells}, key=lambda mode: (not mode[1], mode[0]))
    longest = max(length for length, _ in modes) or 1
    for mode in modes:
        own = sorted((cell for cell in cells if mode_of(cell) == mode), key=at)
        colour = _OFF if mode[1] else colormaps["viridis"](0.9 * mode[0] / longest)
        xs = [at(cell) for cell in own]
        panel.errorbar(
            xs, [1e3 * cell.seconds for cell in own], yerr=[1e3 * cell.spread_seconds for cell in own],
            fmt="o", markersize=4, color=colour, capsize=2, linewidth=1, label=_name(mode),
        )  # fmt: skip
        if xs[0] < xs[-1]:
            # Counts are whole: points of the line that fall on the same one are one.
            between = {
                at(cell): cell for x in np.geomspace(xs[0], xs[-1], _POINTS) for cell in [moved(own[0], x)]
            }
            panel.plot(
                list(between), [1e3 * predicted(cell) for cell in between.values()],
                color=colour, linewidth=1,
            )  # fmt: skip
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter(_PLAIN)
    panel.set_ylim(bottom=0)
    panel.grid(color="#dddddd", linewidth=0.6)


def _errors(panel: Axes, report: FitReport) -> None:
    for extrapolated, colour, label in (
        (False, _INSIDE, "inside"),
        (True, _EXTRAPOLATED, "extrapolated"),
    ):
        held = [each for each in report.held_out if each.extrapolated == extrapolated]
        panel.scatter(
            [1e3 * each.cell.seconds for each in held], [each.error for each in held],
            s=16, color=colour, label=label, linewidths=0,
        )  # fmt: skip
    for goal, style in ((MEDIAN_GOAL, "--"), (P95_GOAL, ":")):
        for sign in (-1, 1):
            panel.axhline(sign * goal, color="black", linewidth=0.8, linestyle=style)
    panel.axhline(0.0, color="black", linewidth=0.5)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter(_PLAIN)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.set_title("error on cells that the model was not fitted to", fontsize=10)
    panel.set_xlabel("measured milliseconds per step")
    panel.legend(frameon=False, fontsize=9)
    panel.grid(color="#dddddd", linewidth=0.6)


def _with_requests(cell: Cell, requests: float) -> Cell:
    n = max(round(requests), 1)
    each = cell.target_tokens / cell.requests
    return replace(cell, requests=n, target_tokens=round(n * each), context_tokens=round(n * _context(cell)))


def _with_context(cell: Cell, context: float) -> Cell:
    return replace(cell, context_tokens=round(cell.requests * context))


def _with_short_contexts(cells: Sequence[Cell]) -> list[Cell]:
    """The cells below the middle of the contexts, on a logarithmic scale, and all like the shortest."""
    contexts = list(map(_context, cells))
    shortest = max(min(contexts), 1.0)
    longest = max((shortest * max(contexts)) ** 0.5, _ALIKE * shortest)
    return [cell for cell in cells if _context(cell) <= longest]


def _context(cell: Cell) -> float:
    return cell.context_tokens / cell.requests


def _name(mode: Mode) -> str:
    length, skipped = mode
    return "off" if skipped else f"length {length}"
