"""Runs one part, unless its result is there already, and writes what came out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from turbospec.engines.bench.gpu import cells, cost, device, summary, tune, varying, worker
from turbospec.engines.bench.gpu.plan import (
    ALWAYS_ANEW,
    CELLS,
    COST,
    FULL,
    HIGH,
    LAYERS,
    LIMIT_SECONDS,
    MODELS,
    NGRAM,
    PAGE,
    PARTS,
    SMALL,
    STEP_TIME,
    SUMMARY,
    TUNE,
    VARYING,
    Scale,
    method_and_agreement,
)
from turbospec.engines.bench.gpu.serving import Case
from turbospec.engines.bench.machine import machine
from turbospec.engines.processes import Children, ProcessFailedError
from turbospec.engines.profiling.errors import OptionError

_FORMAT = "turbospec.bench_gpu"


class Results:
    """The parts' results in one directory, by part and scale."""

    def __init__(self, directory: Path, scale: Scale) -> None:
        self.folder = directory / "gpu" / scale.name
        self._scale = scale

    def path(self, part: str) -> Path:
        """Where a part's result is kept."""
        return self.folder / f"{part}.json"

    def read(self, part: str, path: Path | None = None) -> dict[str, Any] | None:
        """A result; None where it is not there, or is of something else."""
        try:
            found: dict[str, Any] = json.loads((path or self.path(part)).read_text())
        except (OSError, ValueError):
            return None
        told = (found.get("format"), found.get("part"), found.get("scale"))
        return found if told == (_FORMAT, part, self._scale.name) else None

    def need(self, part: str, of: str) -> dict[str, Any]:
        """The same. Raises OptionError, naming what to run first, where it is not there."""
        if (found := self.read(part)) is None:
            raise OptionError(f"--part {of}: run --part {part} first; its result is not in {self.folder}")
        return found

    def all(self) -> dict[str, dict[str, Any]]:
        """Every result, by part."""
        found = {path.stem: self.read(path.stem) for path in sorted(self.folder.glob("*.json"))}
        return {part: result for part, result in found.items() if result and part not in ALWAYS_ANEW}


def run(
    part: str, directory: Path, json_file: Path | None, *, small: bool, console: Console
) -> dict[str, Any]:
    """The part's result, measured now or earlier; written to `json_file` too.

    Raises OptionError where another part must be run first, ProcessFailedError, NotControlledError or
    LoadError where it fails; whatever happens, no process is left behind.
    """
    scale = device.fitted(SMALL if small else FULL)
    results = Results(directory, scale)
    results.folder.mkdir(parents=True, exist_ok=True)
    found = None if part in ALWAYS_ANEW else results.read(part)
    if found is None or _cut_short(found):
        began = time.monotonic()
        found = {
            "format": _FORMAT,
            "part": part,
            "scale": scale.name,
            **_measure(part, directory, results, scale, began + LIMIT_SECONDS),
            "settings": asdict(scale),
            "machine": machine()
            | {"accelerator": device.accelerator(), "accelerator_gib": device.memory_gib()},
            "seconds": round(time.monotonic() - began, 1),
        }
        _write(results.path(part), found)
        console.print(
            f"{part}: took {found['seconds']:.0f} s: {results.path(part)}", highlight=False, soft_wrap=True
        )
    else:
        console.print(f"{part}: done already: {results.path(part)}", highlight=False, soft_wrap=True)
    if json_file is not None:
        _write(json_file, found)
    for target in found.get("targets", []):
        console.print(_line(target), highlight=False, soft_wrap=True)
    return found


def run_all(directory: Path, json_file: Path | None, *, small: bool, console: Console) -> None:
    """Every part that is not done, in order; `json_file` gets the summary.

    A part that fails is named, and the next one begun. Raises ProcessFailedError at the end if any did.
    """
    failed = []
    for part in PARTS:
        try:
            run(part, directory, json_file if part == SUMMARY else None, small=small, console=console)
        # The device is there for a limited time: what is wrong with one part must not cost the others theirs.
        except Exception as error:  # noqa: BLE001
            told = f"{part}: FAILED: {type(error).__name__}: {error}"
            console.print(told, highlight=False, markup=False, soft_wrap=True)
            failed.append(part)
    if failed:
        raise ProcessFailedError(f"failed, and to be run again: {', '.join(failed)}")


def _cut_short(found: dict[str, Any]) -> bool:
    """Whether time was up before a part could be scored: engines that start sooner next time leave more."""
    return found.get("scores") == []


def _measure(part: str, directory: Path, results: Results, scale: Scale, deadline: float) -> dict[str, Any]:
    logs = directory / "logs" / "bench-gpu" / part
    logs.mkdir(parents=True, exist_ok=True)
    models = directory / "gpu" / "models"
    kind = next(
        kind
        for kind in (MODELS, STEP_TIME, TUNE, CELLS, COST, VARYING, SUMMARY, PAGE)
        if part.startswith(kind)
    )

    def settings(module: str, pair: str, **options: Any) -> worker.Settings:
        output = logs / f"{module}-{pair}.json"
        return worker.Settings(module, scale.name, pair, str(models), deadline, str(output), options)

    def case() -> Case:
        method, agree = method_and_agreement(part)
        eps = results.need(MODELS, part)["pairs"][scale.pairs[method]]["eps"]
        return Case(scale, method, agree, eps[HIGH if method == NGRAM else agree])

    def run_models() -> dict[str, Any]:
        pairs = {}
        for pair in dict.fromkeys(scale.pairs.values()):
            with Children(logs) as children:
                pairs[pair] = worker.run(children, settings("agreement", pair))
        return {"pairs": pairs}

    def run_step_time() -> dict[str, Any]:
        profile = results.folder / f"{part}.profile.json"
        wanted = settings(
            "steptime", scale.pairs[LAYERS], asynchronous=part.endswith("-async"), profile=str(profile)
        )
        with Children(logs) as children:
            found: dict[str, Any] = worker.run(children, wanted)
        return found | {"profile": profile.name}

    def run_cells() -> dict[str, Any]:
        entries = results.need(part.replace(CELLS, TUNE, 1), part)["entries"]
        return cells.measure(case(), entries, models, logs, deadline)

    def run_cost() -> dict[str, Any]:
        pair = scale.pairs[LAYERS]
        eps = results.need(MODELS, part)["pairs"][pair]["eps"][HIGH]
        return cost.run(settings("cost", pair, eps=eps, concurrencies=list(scale.concurrencies)), logs)

    def write_page() -> dict[str, Any]:
        # Here, so that parts are measured where nothing can draw: a page can be made of them elsewhere.
        from turbospec.engines.bench.gpu import page

        return page.write(results.all(), results.folder / PAGE)

    measures: dict[str, Callable[[], dict[str, Any]]] = {
        MODELS: run_models,
        STEP_TIME: run_step_time,
        TUNE: lambda: tune.measure(case(), models, logs),
        CELLS: run_cells,
        COST: run_cost,
        VARYING: lambda: varying.measure(case(), models, logs, deadline),
        SUMMARY: lambda: summary.measure(results.all()),
        PAGE: write_page,
    }
    return measures[kind]()


def _write(path: Path, document: dict[str, Any]) -> None:
    """Whole or not at all: a part that was cut off is not taken for done."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(document, indent=1) + "\n")
    partial.replace(path)


def _line(target: dict[str, Any]) -> str:
    if target["met"] is None:
        return f"unknown  {target['name']}: the parts that tell it have not been run"
    bound = f"{'at least' if target['at_least'] else 'at most'} {target['bound']:g}"
    where = f" ({target['where']})" if target["where"] else ""
    return (
        f"{'met' if target['met'] else 'MISSED':8s} {target['name']}{where}: {target['value']:.4g}, {bound}"
    )
