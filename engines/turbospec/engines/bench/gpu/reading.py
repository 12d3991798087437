"""What parts' results say, in the terms of who shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from turbospec.engines.bench.gpu.plan import PARTS


@dataclass(slots=True)
class Cell:
    """One concurrency of a `cells-…` part. By policy: tokens per second, the geometric mean of windows, and
    milliseconds per token, their median; None where no request ended in any window."""

    concurrency: int
    tokens_per_second: dict[str, float] = field(default_factory=dict)
    milliseconds_per_token: dict[str, float | None] = field(default_factory=dict)


def parts_of(results: Mapping[str, dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """The results whose parts are of a kind, in the plan's order."""
    return {part: results[part] for part in PARTS if part.startswith(kind) and part in results}


def cells_of(result: Mapping[str, Any]) -> list[Cell]:
    """The cells of a `cells-…` part, by concurrency."""
    found: dict[int, Cell] = {}
    for each in result["cells"]:
        cell = found.setdefault(each["concurrency"], Cell(each["concurrency"]))
        logs = [math.log(window["tokens_per_second"]) for window in each["windows"]]
        cell.tokens_per_second[each["policy"]] = math.exp(sum(logs) / len(logs))
        times = [1e3 * seconds for window in each["windows"] if (seconds := window.get("seconds_per_token"))]
        cell.milliseconds_per_token[each["policy"]] = median(times) if times else None
    return [found[concurrency] for concurrency in sorted(found)]
