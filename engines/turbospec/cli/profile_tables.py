"""Profiles as tables for people."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from statistics import median

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from turbospec.sidecar.profiles.comparison import CommonCell, Comparison
from turbospec.sidecar.profiles.key import KEY_FIELDS, ProfileKey
from turbospec.sidecar.profiles.profile import Cell, Profile, Summary

_WIDTH = 200  # where no terminal says another one: a pipe wants whole lines
_LARGEST_SHOWN = 10


def show(content: RenderableType) -> None:
    """Prints it, as wide as the terminal is."""
    Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False).print(content)


def listing(summaries: Sequence[Summary], now: datetime) -> RenderableType:
    """A line per profile."""
    if not summaries:
        return Text("no profiles")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("id", no_wrap=True)
    table.add_column("engine", overflow="fold")
    for heading in ("cells", "source", "age"):
        table.add_column(heading, justify="right", no_wrap=True)
    for summary in summaries:
        table.add_row(
            summary.key.profile_id,
            Text(_in_words(summary.key)),
            str(summary.cells),
            summary.source.value,
            age(now, summary.measured_at),
        )
    return table


def details(profile: Profile, now: datetime) -> RenderableType:
    """The key, and the step times by requests and length."""
    summary = profile.summary
    rows = [
        ("id", profile.key.profile_id),
        *((name, _value(profile.key, name)) for name in KEY_FIELDS),
        ("measured", f"{age(now, profile.measured_at)} ago, {profile.measured_at:%Y-%m-%d %H:%M} UTC"),
        ("source", f"{profile.source.value}, by TurboSpec {profile.turbospec_version}"),
        ("cells", f"{summary.cells}, from {summary.steps} steps"),
    ]
    decode = [cell for cell in profile.cells if not cell.prefill_tokens]
    mixed = [cell for cell in profile.cells if cell.prefill_tokens]
    return Group(
        _rows(rows),
        Text("\nmilliseconds per step, by requests and proposal length (off: without the drafter);"),
        Text("where cells differ in context or widths: median (lowest to highest);"),
        Text("-: not measured, so a controller extrapolates; steps: how many each rests on"),
        _cells(decode),
        *([Text("the same of steps with prompts, of any size"), _cells(mixed)] if mixed else ()),
    )


def comparison(compared: Comparison) -> RenderableType:
    """How the keys and the common cells differ."""
    first, second = compared.first.key, compared.second.key
    rows = [(name, f"{_value(first, name)} -> {_value(second, name)}") for name in compared.differing] or [
        ("key", "the same")
    ]
    rows.append(
        (
            "cells",
            f"{len(compared.common)} in both, {compared.only_first} only in the first, "
            f"{compared.only_second} only in the second",
        )
    )
    if compared.median_ratio is None:
        return _rows(rows)
    furthest = compared.by_distance()
    rows.append(("median ratio", f"{compared.median_ratio:.3f} (second to first)"))
    rows.append(("largest ratio", f"{furthest[0].ratio:.3f}, at {_where(furthest[0])}"))
    title = Text("\nfurthest apart, in milliseconds per step")
    return Group(_rows(rows), title, _furthest(furthest[:_LARGEST_SHOWN]))


def age(now: datetime, then: datetime) -> str:
    """The time between, in its largest unit."""
    seconds = max((now - then).total_seconds(), 0.0)
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def _in_words(key: ProfileKey) -> str:
    draft = f" with {key.draft_model}" if key.draft_model else ""
    ranks = f" x {key.model_parallel_size}" if key.model_parallel_size > 1 else ""
    return (
        f"{key.engine_name} {key.engine_version} on {key.hardware}{ranks}: "
        f"{key.model}{draft} ({key.method}), {key.dtype}"
    )


def _rows(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _cells(cells: Sequence[Cell]) -> Table:
    """A row per number of requests and a column per length."""
    by_place: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
    steps: defaultdict[int, list[int]] = defaultdict(list)
    for cell in cells:
        length = "off" if cell.drafter_skipped else str(cell.proposal_length)
        by_place[cell.requests, length].append(1e3 * cell.seconds)
        steps[cell.requests].append(cell.steps)
    lengths = sorted({length for _, length in by_place}, key=lambda name: -1 if name == "off" else int(name))
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("requests", *lengths, "steps"):
        table.add_column(heading, justify="right", no_wrap=True)
    for requests in sorted({requests for requests, _ in by_place}):
        found = (by_place.get((requests, length), []) for length in lengths)
        table.add_row(str(requests), *map(_milliseconds, found), _range(steps[requests]))
    return table


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _milliseconds(values: Sequence[float]) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def _furthest(cells: Sequence[CommonCell]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("steps", overflow="fold")
    for heading in ("first", "second", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in cells:
        times = (f"{1e3 * seconds:.4g}" for seconds in (cell.first_seconds, cell.second_seconds))
        table.add_row(_where(cell), *times, f"{cell.ratio:.3f}")
    return table


def _where(cell: CommonCell) -> str:
    at = cell.coordinates
    told = f"{at.requests} requests, length {at.proposal_length}, {at.target_tokens} tokens, "
    told += f"{at.context_tokens} context"
    if at.prefill_tokens:
        told += f", {at.prefill_tokens} of prompts"
    return told + (", ragged" if at.ragged else "") + (", drafter skipped" if at.drafter_skipped else "")


def _value(key: ProfileKey, name: str) -> str:
    value = getattr(key, name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "-"
    return str(value) or "-"
