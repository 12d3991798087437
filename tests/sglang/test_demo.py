"""`turbospec demo --engine sglang`: a checkout runs it on a CPU; installed without a GPU it says why not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.serving import environment

pytestmark = pytest.mark.sglang

POLICIES = ("none", "idle", "static:4", "goodput")


def demo(program: list[str], directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, run by an interpreter with `program`, to its end."""
    command = [sys.executable, *program, "demo", "--engine", "sglang", "--directory", str(directory)]
    return subprocess.run(
        [*command, *arguments], env=environment(), capture_output=True, text=True, timeout=1000, check=False
    )


def test_demo_measures_what_it_says(tmp_path: Path) -> None:
    """Every policy is measured, under the lengths that it stands for."""
    file = tmp_path / "results.json"
    ended = demo(
        ["-m", "turbospec.cli.main"],
        tmp_path,
        *("--concurrency", "1", "--seconds", "3", "--json", str(file)),
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    document = json.loads(file.read_text())
    assert document["engine"] == "sglang"
    cells = {cell["policy"]: cell for cell in document["cells"]}
    assert tuple(sorted(cells)) == tuple(sorted(POLICIES))
    assert all(cell["tokens"] > 0 for cell in cells.values())
    assert cells["none"]["mean_length"] is None
    # A few steps at the beginning have no plan, or one of the policy before; on a slow machine there are few
    # others.
    first = {policy: 2 / cell["tokens"] for policy, cell in cells.items()}
    assert (cells["idle"]["mean_length"] or 0.0) < max(1.0, 6 * first["idle"])
    assert cells["static:4"]["mean_length"] == pytest.approx(4, abs=max(0.6, 4 * first["static:4"]))
    assert 0.1 < cells["static:4"]["acceptance_ratio"] < 0.9
    assert 0.0 <= (cells["goodput"]["mean_length"] or 0.0) <= 6.0
    assert document["summary"] in " ".join(ended.stdout.split())


def test_without_a_gpu_it_says_why_not(tmp_path: Path) -> None:
    """As installed, without what stands in for SGLang's operators: one line, before anything is started."""
    without = "from turbospec.engines.stage import sglang; sglang._STAND_INS = 'not-installed'"
    ended = demo(["-c", f"{without}; from turbospec.cli.main import run; run()"], tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("turbospec demo: SGLang does not run on this machine: no GPU is found")
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []
