"""What `turbospec profile` does not measure: cells that are known, and what an earlier run has measured."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support.profiled_engine import ProfiledEngine
from support.scripted.costs import Costs, Shape, linear
from support.scripted.hello import capabilities
from support.scripted.machine import Machine
from support.serving import Server
from turbospec.engines.profiling.plan import VISIT_STEPS, PlannedCell, Range
from turbospec.engines.profiling.progress import VisitProgress
from turbospec.engines.profiling.runner import Options, run
from turbospec.engines.profiling.sidecar import Sidecar
from turbospec.engines.profiling.statistics import LEAST_VISITS

# Context costs nothing, so that visits to a cell differ by their noise only.
COSTS = Costs(linear(0.02, 0.0005), prefill_token=2e-5)
ALONE = capabilities(2, max_batch=1)
LENGTHS = (0, 1, 2)
NOISY = 1


@dataclass(frozen=True, slots=True)
class UnevenMachine(Machine):
    """Steps at length `NOISY` take anything from what is stated to twice as long."""

    def seconds(self, number: int, shape: Shape, draw: np.random.Generator) -> float:
        seconds = Machine.seconds(self, number, shape, draw)
        return seconds * draw.uniform(1.0, 2.0) if shape.proposal_length == NOISY else seconds


def live(server: Server, engine_id: str, machine: Machine) -> ProfiledEngine:
    return ProfiledEngine(server.control, ALONE, machine, engine_id=engine_id)


def profile(
    server: Server,
    engine: ProfiledEngine,
    engine_id: str,
    directory: Path,
    repeats: int,
    *,
    restart: bool = False,
) -> tuple[dict[int, int], dict[str, Any], str]:
    """Visits by length, the report, and what was said."""
    report = directory / "report.json"
    options = Options(
        url=engine.url,
        engine_id=engine_id,
        range=Range(contexts=(64,)),
        repeats=repeats,
        restart=restart,
        directory=directory / "working",
        json=report,
    )
    said = io.StringIO()
    with Sidecar(server.introspection, server.operations) as sidecar:
        run(options, sidecar, Console(file=said, width=110))
    content = json.loads(report.read_text())
    return {cell["mode"]["length"]: cell["visits"] for cell in content["cells"]}, content, said.getvalue()


def test_known_cells_are_not_visited_again(server: Server, tmp_path: Path) -> None:
    """Of up to five visits, cells whose steps hardly differ get three, and the one that is uncertain all."""
    with live(server, "uneven", UnevenMachine(COSTS, noise=0.002, outlier_rate=0.0)) as engine:
        visits, content, said = profile(server, engine, "uneven", tmp_path, 5)
    assert visits == {length: 5 if length == NOISY else LEAST_VISITS for length in LENGTHS}
    assert content["steps"]["measured"] == sum(visits.values()) * VISIT_STEPS
    assert "2 of 3 cells are known to 1%." in said
    by_length = {cell["mode"]["length"]: cell["uncertainty"] for cell in content["cells"]}
    assert by_length[NOISY] > 0.01 > max(by_length[0], by_length[2])


def test_a_run_that_goes_on_measures_what_is_left(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after four visits, a run makes five more where a whole one makes nine."""
    made, all_visits = 4, len(LENGTHS) * LEAST_VISITS
    visited, count = VisitProgress.visited, 0

    def visited_until_interrupted(progress: VisitProgress, cell: PlannedCell) -> None:
        nonlocal count
        visited(progress, cell)
        count += 1
        if count == made:
            raise KeyboardInterrupt

    with live(server, "interrupted", Machine(COSTS, noise=0.002, outlier_rate=0.0)) as engine:
        with monkeypatch.context() as interrupting:
            interrupting.setattr(VisitProgress, "visited", visited_until_interrupted)
            with pytest.raises(KeyboardInterrupt):
                profile(server, engine, "interrupted", tmp_path, LEAST_VISITS)
        (kept,) = (tmp_path / "working").iterdir()
        saved = kept.read_bytes()
        visits, content, said = profile(server, engine, "interrupted", tmp_path, LEAST_VISITS)
        assert f"{made} of them were made before" in said
        assert visits == dict.fromkeys(LENGTHS, LEAST_VISITS)
        assert content["steps"]["measured"] == (all_visits - made) * VISIT_STEPS
        # The control: all of them where it begins anew.
        kept.write_bytes(saved)
        visits, content, _ = profile(server, engine, "interrupted", tmp_path, LEAST_VISITS, restart=True)
        assert visits == dict.fromkeys(LENGTHS, LEAST_VISITS)
        assert content["steps"]["measured"] == all_visits * VISIT_STEPS
