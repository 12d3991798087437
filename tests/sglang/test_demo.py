"""`turbospec demo --engine sglang`: a checkout runs it on a CPU; installed without a GPU it says why not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.demo import check_interrupted_leaves_no_process
from support.serving import environment

pytestmark = pytest.mark.sglang

POLICIES = ("none", "idle", "static:4", "goodput")


MODULE = ("-m", "turbospec.cli.main")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models are made once for all tests here."""
    return tmp_path_factory.mktemp("demo")


def command(directory: Path, *arguments: str, program: Sequence[str] = MODULE) -> list[str]:
    """The command line, run by an interpreter with `program`."""
    verb = [sys.executable, *program, "demo", "--engine", "sglang", "--directory", str(directory)]
    return [*verb, *arguments]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs it to its end."""
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=1000, check=False
    )


def test_demo_measures_what_it_says(directory: Path, tmp_path: Path) -> None:
    """Every policy is measured, under the lengths that it stands for."""
    file = tmp_path / "results.json"
    ended = run(command(directory, "--concurrency", "1", "--seconds", "3", "--json", str(file)))
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
    ended = run(command(tmp_path, program=["-c", f"{without}; from turbospec.cli.main import run; run()"]))
    assert ended.returncode == 2
    assert ended.stderr.startswith("turbospec demo: SGLang does not run on this machine: no GPU is found")
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("phase", "number", "at_least"),
    [
        ("starting SGLang", signal.SIGKILL, 6),
        # By now each server has its scheduler and its detokenizer.
        ("warming up", signal.SIGINT, 10),
    ],
)
def test_interrupted_it_leaves_no_process(
    directory: Path, phase: str, number: signal.Signals, at_least: int
) -> None:
    """As with vLLM, although SGLang's servers start processes of another kind."""
    interrupted = subprocess.Popen(
        command(directory, "--concurrency", "1"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    check_interrupted_leaves_no_process(interrupted, phase, number, at_least)
