"""The parts `cells-…`: goodput and time per token of every policy, for one method and one agreement."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from turbospec.engines.bench.e2e.lineup import Lineup, Window
from turbospec.engines.bench.e2e.scoring import MIN_REPEATS, Scores
from turbospec.engines.bench.gpu.plan import GOODPUT, STATICS
from turbospec.engines.bench.gpu.serving import Case, Entries, lineup, stage
from turbospec.engines.load import LoadError

_ATTEMPTS = 3
_SEED = 0  # of what comes before the repeats, which have their own numbers as seeds

Windows = dict[int, dict[str, list[Window]]]
"""By concurrency and policy, one per repeat."""


def measure(case: Case, entries: Entries, directory: Path, logs: Path, deadline: float) -> dict[str, Any]:
    """As many repeats as planned, or as end before `deadline`, which is in `time.monotonic` seconds."""
    scale = case.scale
    began = time.monotonic()
    windows: Windows = {}
    with stage(case, directory, logs) as on:
        measured, own = lineup(on, case, entries)
        with measured:
            started = time.monotonic() - began
            _warm_up(measured, case, own)
            took = 0.0  # the first one is measured whatever the time
            for repeat in range(1, scale.repeats + 1):
                repeat_began = time.monotonic()
                if took and repeat_began + took > deadline:
                    break
                for concurrency, policies in order(scale.concurrencies, own, repeat):
                    for policy in policies:
                        if policy == GOODPUT:
                            measured.measure(policy, concurrency, scale.settle_seconds, seed=_SEED)
                        window = _window(measured, policy, concurrency, scale.window_seconds, repeat)
                        windows.setdefault(concurrency, {}).setdefault(policy, []).append(window)
                took = time.monotonic() - repeat_began
    return {
        "method": case.method,
        "agreement": case.agreement,
        "cells": [
            {"concurrency": concurrency, "policy": policy, "windows": [asdict(each) for each in by_policy]}
            for concurrency, policies in sorted(windows.items())
            for policy, by_policy in policies.items()
        ],
        "scores": scores(windows, own),
        "table": entries,
        "start_seconds": round(started, 1),
        "windows_measured_again": measured.repeated,
    }


def order(concurrencies: Sequence[int], own: Sequence[str], repeat: int) -> list[tuple[int, tuple[str, ...]]]:
    """One repeat: all policies at one concurrency next to each other, then the next one, in random orders.

    `own`: policies with an engine of their own beside `goodput`. The static lengths share one and stay
    together.
    """
    draw = random.Random(f"cells/{repeat}")
    found = []
    for concurrency in draw.sample(concurrencies, len(concurrencies)):
        visits = [(GOODPUT,), tuple(draw.sample(STATICS, len(STATICS))), *((policy,) for policy in own)]
        draw.shuffle(visits)
        found.append((concurrency, tuple(policy for visit in visits for policy in visit)))
    return found


def scores(windows: Windows, own: Sequence[str]) -> list[dict[str, Any]]:
    """`goodput` against the best static length and every other policy, with intervals, by concurrency.

    Empty where there are too few repeats to choose the best on some and compare it on others.
    """
    repeats = min(len(each) for by_policy in windows.values() for each in by_policy.values())
    if repeats < MIN_REPEATS:
        return []
    speeds = {
        ("", concurrency): {
            policy: [window.tokens_per_second for window in each[:repeats]]
            for policy, each in by_policy.items()
        }
        for concurrency, by_policy in windows.items()
    }
    best = Scores(speeds, STATICS)
    return [
        {
            "concurrency": cell[1],
            "best": best.chosen(cell),
            "goodput_over_best_static": asdict(best.over_best(GOODPUT, [cell])),
            **{
                f"goodput_over_{policy}": asdict(best.over(GOODPUT, policy, [cell]))
                for policy in (*own, *STATICS)
            },
        }
        for cell in sorted(best.cells)
    ]


def _window(measured: Lineup, policy: str, concurrency: int, seconds: float, seed: int) -> Window:
    """One that tells something: on a machine that hangs for a moment one may pass without a token."""
    for _ in range(_ATTEMPTS):
        window = measured.measure(policy, concurrency, seconds, seed=seed)
        if window.tokens_per_second:
            return window
    raise LoadError(f"{policy} at {concurrency}: no token came in {_ATTEMPTS} windows of {seconds:g} s")


def _warm_up(measured: Lineup, case: Case, own: Sequence[str]) -> None:
    """Every engine under every load once: first steps allocate, and the controller learns costs."""
    measured.answer_once()
    for policy in (*own, GOODPUT, STATICS[-1]):
        for concurrency in case.scale.concurrencies:
            measured.measure(policy, concurrency, case.scale.window_seconds, seed=_SEED)
