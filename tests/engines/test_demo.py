"""`turbospec demo`, as a person runs it: real engines, real load, real interruption."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.demo import check_interrupted_leaves_no_process

pytestmark = pytest.mark.vllm

# Not one: greedy answers of made models repeat themselves at times, and then the poorer draft is as good.
FEW, CROWD = 4, 32

_DEMO = [sys.executable, "-m", "turbospec.cli.main", "demo"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models are made once for all tests here."""
    return tmp_path_factory.mktemp("demo")


def _start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*_DEMO, "--directory", str(directory), *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@dataclass(frozen=True)
class Run:
    """What one demonstration printed, and the JSON document that it wrote."""

    output: str
    document: dict[str, Any]

    def cells(self) -> dict[tuple[int, str], dict[str, Any]]:
        """By concurrency and policy."""
        return {(cell["concurrency"], cell["policy"]): cell for cell in self.document["cells"]}

    def length(self, concurrency: int) -> float:
        """Drafts that `goodput` verified per request and step, by vLLM's own counters."""
        return float(self.cells()[concurrency, "goodput"]["mean_length"] or 0.0)

    def beside_static(self) -> float:
        """Tokens per second of `goodput` over those of the static length, for few requests."""
        speed = {policy: self.cells()[FEW, policy]["tokens_per_second"] for policy in ("goodput", "static:4")}
        return float(speed["goodput"] / speed["static:4"])


def _demonstrate(directory: Path, agreement: str) -> Run:
    """A demonstration of a model pair, with few requests and crowded."""
    file = directory / f"{agreement}.json"
    loads = ("--concurrency", f"{FEW},{CROWD}", "--seconds", "4")
    options = (*loads, "--agreement", agreement, "--json", str(file))
    demo = _start(directory, *options)
    output, _ = demo.communicate(timeout=900)
    assert demo.returncode == 0, output
    return Run(output, json.loads(file.read_text()))


@pytest.fixture(scope="module")
def runs(directory: Path) -> dict[str, Run]:
    """One of each pair."""
    return {agreement: _demonstrate(directory, agreement) for agreement in ("high", "low")}


@pytest.mark.measures
@pytest.mark.timeout(2000)
@pytest.mark.parametrize("agreement", ["high", "low"])
def test_demo_measures_what_it_says(runs: dict[str, Run], directory: Path, agreement: str) -> None:
    """Every policy is measured at every concurrency, under the lengths that it stands for."""
    run = runs[agreement]
    cells = run.cells()
    assert set(cells) == {(n, p) for n in (FEW, CROWD) for p in ("none", "idle", "static:4", "goodput")}
    for (concurrency, policy), cell in cells.items():
        assert cell["tokens_per_second"] == pytest.approx(cell["tokens"] / cell["measured_seconds"])
        assert cell["tokens"] > 0
        none = cells[concurrency, "none"]["tokens_per_second"]
        assert cell["relative_to_none"] == pytest.approx(cell["tokens_per_second"] / none)
        # Of a plan in force until the change of policy, or where one expired as the machine stood still, the
        # drafts of two steps may be verified. On a slow machine there are few others.
        first = 2 * concurrency / cell["tokens"]
        if policy == "none":
            assert cell["mean_length"] is None
        if policy == "idle":
            length = cell["mean_length"] or 0.0
            # A tenth of its steps may be at the engine's own length and count as the policy's, where plans
            # expired as the machine stood still. Twice in the same cell is no such luck.
            if length >= max(0.3, 6 * first):
                length = _demonstrate(directory, agreement).cells()[concurrency, policy]["mean_length"] or 0.0
            assert length < max(0.3, 6 * first)
        if policy == "static:4":
            assert cell["mean_length"] == pytest.approx(4, abs=max(0.4, 4 * first))
            # Made for 75% and 40% at the first position; few requests, and each repeats itself.
            assert cell["acceptance_ratio"] == pytest.approx({"high": 0.6, "low": 0.25}[agreement], abs=0.2)
    assert run.document["summary"] in " ".join(run.output.split())
    for command in ("turbospec status --address 127.0.0.1:", "grpcurl -plaintext 127.0.0.1:", "curl http://"):
        assert command in run.output


@pytest.mark.measures
@pytest.mark.timeout(2000)
def test_lengths_fall_with_load(runs: dict[str, Run], directory: Path) -> None:
    """The more requests share a step, the dearer a draft is: `goodput` verifies fewer of them.

    How far a good draft's length falls depends on the machine: on some the longest is as good as any at every
    load. There it must not rise, save by the luck of the few requests of one measurement. Where a poor draft
    is hardly used for few requests either, that must have been right: the static length is no better.
    """
    low = runs["low"]
    if low.length(FEW) >= 0.5:
        assert low.length(CROWD) < low.length(FEW)
    else:
        assert low.length(CROWD) < 0.5
        # A machine that became slower between the two would say otherwise; it does not do so twice.
        if low.beside_static() <= 0.9:
            low = _demonstrate(directory, "low")
        assert low.beside_static() > 0.9
    assert runs["high"].length(CROWD) < runs["high"].length(FEW) + 0.5


@pytest.mark.measures
def test_lengths_follow_the_draft(runs: dict[str, Run]) -> None:
    """A draft that agrees more often with its target is asked for more tokens.

    Compared where few requests run: with many, neither pays on some machines, and both lengths are 0.
    """
    assert runs["low"].length(FEW) < runs["high"].length(FEW)


@pytest.mark.parametrize(
    ("phase", "number", "at_least"),
    [
        ("making models", signal.SIGTERM, 0),
        ("starting the controller", signal.SIGINT, 1),
        ("starting vLLM", signal.SIGTERM, 6),
        ("starting vLLM", signal.SIGKILL, 6),
        # By now the engines have workers of their own.
        ("warming up", signal.SIGINT, 8),
    ],
)
def test_interrupted_it_leaves_no_process(
    tmp_path: Path, directory: Path, phase: str, number: signal.Signals, at_least: int
) -> None:
    """Whatever it was doing and whatever ended it, nothing stays; interrupted, it says so."""
    demo = _start(tmp_path if phase == "making models" else directory, "--concurrency", "8")
    check_interrupted_leaves_no_process(demo, phase, number, at_least)
