"""What is made of the results of `turbospec bench gpu`: a page with pictures, and a latency profile."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from turbospec.engines.bench.gpu import page, picture, plan, runner, steptime, summary
from turbospec.engines.bench.gpu.plan import GOODPUT, NONE, SMALL, STATICS, TABLE
from turbospec.engines.bench.gpu.reading import cells_of, parts_of
from turbospec.sidecar.profiles import document
from turbospec.sidecar.profiles.profile import Source
from turbospec.sidecar.profiles.store import SUFFIX

_MEASURED = Path(__file__).parent / "gpu_results"
"""Results of a run with `--small`, as its parts left them."""


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A directory in which some parts are done."""
    folder = runner.Results(tmp_path, SMALL).folder
    shutil.copytree(_MEASURED, folder)
    return tmp_path


def test_the_page_shows_what_was_measured(measured: Path) -> None:
    """Tables with the parts' numbers, a picture for each kind of parts, and which parts were not run."""
    found = runner.run(plan.PAGE, measured, None, small=True, console=Console(file=io.StringIO()))
    folder = Path(found["folder"])
    assert found["files"] == [page.FILE, "gpu-cells.png", "gpu-varying.png", "gpu-step-time.png"]
    for name in found["files"][1:]:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    text = (folder / page.FILE).read_text()
    results = runner.Results(measured, SMALL).all()
    for score in results["cells-layers-high"]["scores"]:
        assert f"{score['goodput_over_best_static']['value']:.3f} (" in text
        assert f"{score['goodput_over_table']['low']:.3f} to" in text
    assert f"{results['varying-layers-low']['goodput_over_none']:.3f} |" in text
    (everything,) = (r for r in results["step-time-async"]["fit"]["regions"] if r["name"] == "all")
    assert f"| {everything['median']:.1%}, {everything['p95']:.1%} |" in text
    assert all(f"{cell['dilation']['ratio']:.4f} (" in text for cell in results["cost"]["cells"])
    assert "`cells-1b-low`" in text
    assert "`cells-layers-high`" not in text.partition("## Targets")[0]
    assert "Small models on a CPU" in text
    assert all(f"]({name})" in text for name in found["files"][1:])


def test_a_page_of_nothing_shows_nothing(tmp_path: Path) -> None:
    """No part, no table, no picture: every target is one that was not measured."""
    found = page.write({}, tmp_path / "page")
    assert found["files"] == [page.FILE]
    text = (tmp_path / "page" / page.FILE).read_text()
    assert text.count("not measured") == len(summary.targets({}))
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Targets"]


def test_pictures_show_each_policy_against_none(measured: Path) -> None:
    """Throughput as a ratio, at every concurrency; every point is a number of the results."""
    parts = parts_of(runner.Results(measured, SMALL).all(), plan.CELLS)
    cells_there = cells_of(parts["cells-layers-high"])
    panels = picture._cells(parts).get_axes()
    lines = {line.get_label(): list(line.get_ydata()) for line in panels[0].get_lines()}
    assert set(lines) == {NONE, TABLE, GOODPUT, *STATICS}
    for policy, ratios in lines.items():
        wanted = [cell.tokens_per_second[policy] / cell.tokens_per_second[NONE] for cell in cells_there]
        assert ratios == pytest.approx(wanted)


def test_pictures_show_step_times_at_both_ends_of_the_contexts(measured: Path) -> None:
    """Measured and predicted milliseconds of the cells there, one pair of lines for each length."""
    parts = parts_of(runner.Results(measured, SMALL).all(), plan.STEP_TIME)
    held = parts["step-time-async"]["fit"]["held_out"]
    short, long, errors = picture._step_times(parts).get_axes()
    for panel, there in ((short, lambda context: context < 128), (long, lambda context: context >= 128)):
        own = [
            each for each in held if not each["ragged"] and there(each["context_tokens"] / each["requests"])
        ]
        shown = Counter(float(y) for line in panel.get_lines() for y in line.get_ydata())
        assert own
        assert shown == Counter(each[kind] for each in own for kind in ("measured_ms", "predicted_ms"))
    assert sum(len(points.get_offsets()) for points in errors.collections) == len(held)


def test_cells_are_read_by_concurrency() -> None:
    """Speeds are geometric means of windows; a policy none of whose requests ended has no time per token."""
    windows = [{"tokens_per_second": 10.0, "seconds_per_token": None}, {"tokens_per_second": 40.0}]
    ended = [{"tokens_per_second": 30.0, "seconds_per_token": 0.02}] * 3
    found = cells_of(
        {
            "cells": [
                {"concurrency": 16, "policy": NONE, "windows": windows},
                {"concurrency": 1, "policy": NONE, "windows": windows},
                {"concurrency": 16, "policy": GOODPUT, "windows": ended},
            ]
        }
    )
    assert [cell.concurrency for cell in found] == [1, 16]
    assert found[1].tokens_per_second == pytest.approx({NONE: 20.0, GOODPUT: 30.0})
    assert found[1].milliseconds_per_token == {NONE: None, GOODPUT: 20.0}


def test_the_profile_is_one_of_the_stores() -> None:
    """It holds every cell that was measured, and its key no directory of the machine that measured it."""
    result = json.loads((_MEASURED / "step-time-async.json").read_text())
    profile = document.loads((_MEASURED / result["profile"]).read_bytes())
    assert result["profile"].endswith(SUFFIX)
    assert len(profile.cells) == result["cells"]
    assert profile.source is Source.SWEEP
    made = replace(profile.key, model="/some/where/target-8b-1", draft_model="/some/where/draft-8b")
    named = steptime.named(made)
    assert (named.model, named.draft_model) == ("target-8b-1", "draft-8b")
    assert steptime.named(profile.key) == profile.key
