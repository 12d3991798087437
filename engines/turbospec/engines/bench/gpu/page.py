"""The part `page`: results as a page with tables and pictures, from the parts that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from turbospec.engines.bench.gpu import picture
from turbospec.engines.bench.gpu.plan import (
    ADAPTIVE,
    ALWAYS_ANEW,
    CELLS,
    COST,
    GOODPUT,
    MODELS,
    NONE,
    PARTS,
    STEP_TIME,
    TABLE,
    VARYING,
)
from turbospec.engines.bench.gpu.reading import cells_of, parts_of
from turbospec.engines.bench.gpu.summary import targets

FILE = "gpu-results.md"
_REGIONS = ("all", "inside", "extrapolated")


def write(results: Mapping[str, dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Writes the page and its pictures into `folder`, for `docs/`; the names of the files.

    `results`: by part. Raises OSError where a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = picture.draw(results, folder)
    (folder / FILE).write_text("\n".join(_lines(results, pictures)) + "\n")
    return {"folder": str(folder), "files": [FILE, *pictures.values()]}


def _lines(results: Mapping[str, dict[str, Any]], pictures: Mapping[str, str]) -> Iterator[str]:
    yield "# Results on a GPU"
    yield ""
    yield from _machines(results)
    yield "How it was measured, and what words mean: [On a GPU](gpu.md). Written by `turbospec bench gpu`."
    absent = [part for part in PARTS if part not in results and part not in ALWAYS_ANEW]
    if absent:
        yield ""
        yield f"Not run: {', '.join(f'`{part}`' for part in absent)}."
    yield from _section("Targets", None, _targets(results))
    yield from _section("Throughput", pictures.get(CELLS), _throughput(parts_of(results, CELLS)))
    yield from _section("Time per token", None, _times_per_token(parts_of(results, CELLS)))
    yield from _section("Load that varies", pictures.get(VARYING), _varying(parts_of(results, VARYING)))
    yield from _section("Step times", pictures.get(STEP_TIME), _step_times(parts_of(results, STEP_TIME)))
    yield from _section("What control costs", None, _cost(results.get(COST)))
    yield from _section("The models", None, _models(results.get(MODELS)))


def _machines(results: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    told = {
        f"{machine.get('accelerator') or 'No GPU'}, {machine['cores']} cores, {machine['engine']}, "
        f"TurboSpec {machine['turbospec']}"
        for result in results.values()
        if (machine := result.get("machine"))
    }
    for machine in sorted(told):
        yield f"Measured on: {machine}."
        yield ""
    if any(result.get("scale") == "small" for result in results.values()):
        yield "**Small models on a CPU: these numbers show that the benchmark runs, and nothing else.**"
        yield ""


def _section(title: str, drawn: str | None, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Nothing where there are no rows beside their header."""
    if len(rows) < 2:
        return
    yield ""
    yield f"## {title}"
    if drawn is not None:
        yield ""
        yield f"![{title}]({drawn})"
    yield ""
    header, *body = rows
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in body:
        yield f"| {' | '.join(row)} |"


def _targets(results: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    rows = [["target", "bound", "measured", "where", "met"]]
    for target in targets(results):
        bound = f"{'>=' if target.at_least else '<='} {target.bound:g}"
        met = {True: "yes", False: "**no**", None: "not measured"}[target.met]
        rows.append([target.name, bound, _number(target.value, ".4g"), target.where, met])
    return rows


def _throughput(parts: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    own = (NONE, TABLE, ADAPTIVE)
    rows = [
        [
            "part",
            "requests",
            "best static",
            "goodput / best",
            *(f"goodput / {name}" for name in own),
            "tokens/s",
        ]
    ]
    for part, result in parts.items():
        scores = {score["concurrency"]: score for score in result["scores"]}
        for cell in cells_of(result):
            score = scores.get(cell.concurrency, {})
            ratios = [score.get(f"goodput_over_{name}") for name in ("best_static", *own)]
            rows.append(
                [
                    part,
                    str(cell.concurrency),
                    ", ".join(dict.fromkeys(score.get("best", ["too few repeats"]))),
                    *map(_ratio, ratios),
                    f"{cell.tokens_per_second[GOODPUT]:.0f}",
                ]
            )
    return rows


def _times_per_token(parts: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    policies = list(
        dict.fromkeys(
            policy
            for result in parts.values()
            for cell in cells_of(result)
            for policy in sorted(cell.milliseconds_per_token)
        )
    )
    rows = [["part", "requests", *(f"{policy}, ms" for policy in policies)]]
    for part, result in parts.items():
        for cell in cells_of(result):
            times = [_number(cell.milliseconds_per_token.get(policy), ".2f") for policy in policies]
            rows.append([part, str(cell.concurrency), *times])
    return rows


def _varying(parts: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    rows = [["part", "tokens/s", "best static", "goodput / best", "goodput / none"]]
    for part, result in parts.items():
        ratios = [_number(result[name], ".3f") for name in ("goodput_over_best_static", "goodput_over_none")]
        rows.append([part, f"{result['tokens_per_second'][GOODPUT]:.0f}", result["best_static"], *ratios])
    return rows


def _step_times(parts: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    rows = [["part", "cells", *(f"{region}: median, p95" for region in _REGIONS)]]
    for part, result in parts.items():
        regions = {region["name"]: region for region in result["fit"]["regions"]}
        errors = [
            f"{region['median']:.1%}, {region['p95']:.1%}" if (region := regions.get(name)) else "-"
            for name in _REGIONS
        ]
        rows.append([part, f"{result['cells']} of {result['planned_cells']}", *errors])
    return rows


def _cost(result: Mapping[str, Any] | None) -> list[list[str]]:
    rows = [["requests", "adapter per step, us", "sidecar per plan, us", "age of plans, steps", "dilation"]]
    for cell in result["cells"] if result else ():
        pairs = [
            f"{_number(cell[f'{name}_p50'], '.3g')}, p99 {_number(cell[f'{name}_p99'], '.3g')}"
            for name in ("adapter_us", "sidecar_us", "plan_lag_steps")
        ]
        rows.append([str(cell["requests"]), *pairs, _ratio(cell["dilation"], ".4f")])
    return rows


def _models(result: Mapping[str, Any] | None) -> list[list[str]]:
    rows = [["pair", "agreement", "eps", "first drafts accepted", "accepted of four"]]
    for pair, found in (result["pairs"] if result else {}).items():
        for agreement, eps in found["eps"].items():
            # The last point of an eps is of the run that was made to confirm it.
            point = [point for point in found["points"] if point["eps"] == eps][-1]
            shares = [f"{point['first_accepted']:.0%}", f"{point['mean_accepted']:.2f}"]
            rows.append([pair, agreement, f"{eps:.4g}", *shares])
    return rows


def _ratio(estimate: Mapping[str, Any] | None, form: str = ".3f") -> str:
    """With its 90% interval."""
    if estimate is None:
        return "-"
    value = estimate["value"] if "value" in estimate else estimate["ratio"]
    return f"{value:{form}} ({estimate['low']:{form}} to {estimate['high']:{form}})"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
