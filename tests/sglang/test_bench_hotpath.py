"""`turbospec bench hotpath` on the real SGLang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest
from support.sglang_hotpath import STEPS
from support.sidecar import SOURCE_ROOTS, Sidecar
from turbospec.engines.bench.hotpath import plan, sglang
from turbospec.engines.bench.hotpath.measured import read_stage
from turbospec.engines.bench.hotpath.worker import Settings

pytestmark = [pytest.mark.sglang, pytest.mark.timeout(600)]


def test_the_adapter_is_measured_in_steps_that_it_controls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps under plans cost something, and lengths are switched; steps without the adapter do the same work
    and are reported by nobody.
    """
    # A machine that stands still for a second must not end the run, which wants steps under plans.
    monkeypatch.setenv("TURBOSPEC_PLAN_TIME_TO_LIVE_MS", "10000")
    sidecar = Sidecar(tmp_path, "goodput")
    settings = Settings(
        stage=0,
        models=str(tmp_path),
        engine_id="hotpath",
        introspection=sidecar.introspection,
        operations=sidecar.operations,
        sidecar=sidecar.process.pid,
        cores=None,
        output=str(tmp_path / "times.json"),
    )
    command = [sys.executable, "-m", "support.sglang_hotpath", json.dumps(asdict(settings))]
    environ = {
        **os.environ,
        **sglang.environment(),
        "PYTHONPATH": os.pathsep.join([SOURCE_ROOTS, str(Path(__file__).parents[1])]),
        "TURBOSPEC_CONTROL_ADDRESS": sidecar.control_address,
        "TURBOSPEC_ENGINE_ID": settings.engine_id,
        "TMPDIR": str(tmp_path),
    }
    try:
        done = subprocess.run(
            [*command, str(tmp_path / "notes.json")],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
    finally:
        sidecar.stop()
    assert done.returncode == 0, done.stderr
    cell = read_stage(tmp_path / "times.json").cells[0]
    for policy in (plan.SIDECAR_POLICY, plan.ADAPTER_POLICY):
        assert len(cell.adapter_ns[policy]) == 2 * STEPS
        assert min(cell.adapter_ns[policy]) > 0
    assert 1 <= len(cell.switch_ns[plan.ADAPTER_POLICY]) <= 2 * STEPS
    ages = [age for age in cell.plan_ages if age is not None]
    assert len(ages) >= STEPS
    assert min(ages) >= 1
    assert [block.adapter for block in cell.pinned] == [False, True, True, False]
    assert len({block.tokens for block in cell.pinned}) == 1
    notes = json.loads((tmp_path / "notes.json").read_text())
    assert [present for present, _ in notes] == [False, True, True, False, True]
    reported = [later - sooner for (_, sooner), (_, later) in pairwise(notes)]
    block_steps = plan.WARM_STEPS + STEPS
    assert [steps >= block_steps for steps in reported] == [False, True, True, False]
    assert reported[0] == reported[3] == 0
