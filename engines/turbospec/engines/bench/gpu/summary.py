"""The part `summary`: what all parts together say of the targets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from turbospec.engines.bench.gpu.plan import CELLS, COST, GOODPUT, NONE, STATICS, STEP_TIME, TABLE, VARYING
from turbospec.engines.bench.gpu.reading import cells_of, parts_of

_DILATION = 1.005
_FIT_MEDIAN = 0.05
_OF_BEST, _OF_TABLE, _OF_SINGLE, _OF_NONE = 0.98, 1.0, 1.05, 0.99


@dataclass(frozen=True, slots=True)
class Target:
    """`value` None: the parts that tell it are not there. `at_least`: otherwise at most."""

    name: str
    value: float | None
    bound: float
    at_least: bool
    where: str = ""

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def measure(results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The targets, from the results of other parts by name."""
    return {
        "targets": [asdict(target) | {"met": target.met} for target in targets(results)],
        "parts": sorted(results),
    }


def targets(results: Mapping[str, dict[str, Any]]) -> list[Target]:
    """All of them, whichever parts are there."""
    speeds = _speeds(results)
    ratios = {
        (part, score["concurrency"]): score
        for part, result in results.items()
        if part.startswith(CELLS)
        for score in result["scores"]
    }
    of_best = {cell: score["goodput_over_best_static"]["value"] for cell, score in ratios.items()}
    of_none = {cell: by_policy[GOODPUT] / by_policy[NONE] for cell, by_policy in speeds.items()}
    of_table = [math.log(each[GOODPUT] / each[TABLE]) for each in speeds.values() if TABLE in each]
    of_single = {
        policy: _mean([math.log(each[GOODPUT] / each[policy]) for each in speeds.values()])
        for policy in STATICS
    }
    single = min(of_single, key=lambda policy: of_single[policy] or 0.0)
    varying = {p: r["goodput_over_best_static"] for p, r in results.items() if p.startswith(VARYING)}
    dilations = {
        f"{cell['requests']} at once": cell["dilation"]["ratio"]
        for cell in results.get(COST, {}).get("cells", [])
    }
    fits = {
        part: region["median"]
        for part, result in results.items()
        if part.startswith(STEP_TIME)
        for region in result["fit"]["regions"]
        if region["name"] == "all"
    }
    return [
        _worst("goodput / the best static length, worst cell", of_best, _OF_BEST),
        Target("goodput / vLLM's tuned table, all cells", _exp(_mean(of_table)), _OF_TABLE, True),
        Target(
            "goodput / the best single length, all cells", _exp(of_single[single]), _OF_SINGLE, True, single
        ),
        _worst("goodput / the best single length, load that varies", varying, _OF_SINGLE),
        _worst("goodput / none, worst cell", of_none, _OF_NONE),
        _worst("dilation, worst", dilations, _DILATION, at_least=False),
        _worst("held-out step times, median error", fits, _FIT_MEDIAN, at_least=False),
    ]


def _speeds(results: Mapping[str, dict[str, Any]]) -> dict[tuple[str, int], dict[str, float]]:
    """Tokens per second by cell and policy, geometric means over windows."""
    return {
        (part, cell.concurrency): cell.tokens_per_second
        for part, result in parts_of(results, CELLS).items()
        for cell in cells_of(result)
    }


def _worst(name: str, values: Mapping[Any, float], bound: float, *, at_least: bool = True) -> Target:
    if not values:
        return Target(name, None, bound, at_least)
    where = (min if at_least else max)(values, key=lambda key: values[key])
    told = where if isinstance(where, str) else f"{where[0]} at {where[1]}"
    return Target(name, values[where], bound, at_least, told)


def _mean(logs: list[float]) -> float | None:
    return sum(logs) / len(logs) if logs else None


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(value)
