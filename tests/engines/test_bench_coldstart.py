"""`turbospec bench cold-start`: what it runs, how it scores, and what it writes."""

from __future__ import annotations

import asyncio
import io
import json
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console
from support import profiled_engine
from support.patience import PATIENCE_SECONDS
from support.profiled_engine import ProfiledEngine
from support.profiles import key, profile
from support.scripted.costs import Costs, linear
from support.scripted.hello import capabilities
from support.scripted.machine import Machine
from turbospec.adapters import backoff
from turbospec.cli.main import main
from turbospec.engines.bench.coldstart import document, engine, phases, runner, table
from turbospec.engines.bench.coldstart import profile as profiles
from turbospec.engines.bench.coldstart.measured import Measured, Phase, Run, cells_of
from turbospec.engines.bench.coldstart.plan import (
    ARMS,
    COLD,
    FIRST,
    FIRST_STEPS,
    LATER,
    LOADS,
    OFF,
    WARM,
    Cell,
    Options,
    planned_seconds,
    repeats,
)
from turbospec.engines.bench.coldstart.scoring import ratio, worst
from turbospec.engines.bench.coldstart.targets import ratios
from turbospec.engines.bench.moving.crowd import Crowd
from turbospec.engines.bench.moving.watching import Lengths
from turbospec.engines.load import Workload
from turbospec.engines.models import MadeModels
from turbospec.engines.processes import Children, free_port, responds
from turbospec.engines.profiling.errors import OptionError
from turbospec.engines.stage import engines, steering, vllm
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.steering import NotControlledError
from turbospec.sidecar.profiles.document import dumps
from turbospec.sidecar.profiles.profile import Source

_TARGETS = 3
_SERVER = Path(__file__).parents[1] / "support" / "completions_server.py"


def _measured(slow: dict[tuple[str, Cell], float] | None = None, noise: float = 0.01) -> Measured:
    """Two pairs whose arms are all as fast, but for `slow`: arm and phase by how many times."""
    options = Options(repeats=6)
    measured = Measured(options, profile())
    draw = random.Random(1)
    for pair in options.pairs:
        for _ in range(options.repeats):
            for arm in ARMS:
                run = {}
                for cell in cells_of(arm):
                    speed = 40.0 * cell.requests**0.7 * (slow or {}).get((arm, cell), 1.0)
                    tokens = round(10 * speed * draw.gauss(1.0, noise))
                    run[cell] = Phase(50, 10.0, tokens, None if cell.visit == 1 else 2.0, cell.requests == 32)
                measured.add(pair, arm, run)
    return measured


def test_its_defaults_are_short() -> None:
    """Both pairs, four repeats, the profile measured too, within a quarter of an hour; 300 steps."""
    options = Options()
    assert (options.pairs, options.repeats, options.profile) == (("high", "low"), 4, None)
    assert FIRST_STEPS == 300
    assert planned_seconds(options) <= 15 * 60
    assert planned_seconds(replace(options, profile=Path("a"))) < planned_seconds(options)


def test_all_arms_of_a_repeat_have_the_same_load() -> None:
    """Every load in each visit, in orders that differ between repeats and are the same in every run."""
    made = list(repeats(Options(), "high"))
    assert made == list(repeats(Options(), "high"))
    assert made != list(repeats(Options(), "low"))
    for repeat in made:
        assert sorted(repeat.arms) == sorted(ARMS)
        assert sorted(repeat.first) == sorted(FIRST)
        assert [cell.visit for cell in repeat.first] == [1, 1, 1, 2, 2, 2]
        assert repeat.cells(OFF) == repeat.first
        assert repeat.cells(COLD) == repeat.cells(WARM) == (*repeat.first, *repeat.later)
        assert len({cell.requests for cell in repeat.later}) == len(LOADS)
    assert len({repeat.first for repeat in made}) > 1


def test_arms_that_are_as_fast_meet_all_targets() -> None:
    """And are at 1 in all ratios."""
    for pair in ("high", "low"):
        found = ratios(_measured(), pair)
        assert [each.met for each in found] == [True] * _TARGETS + [None, None]
        for each in found:
            assert each.estimate.low <= each.estimate.value <= each.estimate.high
            assert each.estimate.value == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    ("cells", "missed"),
    [(LATER, [0]), (FIRST, [1, 2]), (FIRST[2:3], [2])],
    ids=["later", "first", "one phase"],
)
def test_a_cold_start_that_is_a_tenth_slower_misses_its_target(
    cells: tuple[Cell, ...], missed: list[int]
) -> None:
    """The negative control: after the first steps, during all of them, and in one phase of them only."""
    measured = _measured({(COLD, cell): 0.9 for cell in cells})
    for pair in ("high", "low"):
        found = ratios(measured, pair)
        assert [index for index, each in enumerate(found) if each.met is False] == missed
        for index in missed:
            assert found[index].estimate.value == pytest.approx(0.9, abs=0.03)
    if cells == FIRST[2:3]:
        assert "32 at once, visit 1" in found[2].name


def test_phases_weigh_the_same() -> None:
    """A phase of one request counts as much as one of 32, whose tokens are ten times as many."""
    assert ratio([[20.0] * 4, [400.0] * 4], [[10.0] * 4, [800.0] * 4]).value == pytest.approx(1.0)


def test_the_worst_phase_is_not_made_of_noise() -> None:
    """Over many runs of arms that are as fast the worst of twenty phases is at 1; the lowest one is not."""
    draw = random.Random(2)
    found, lowest = [], []
    for _ in range(60):
        a, b = ([[draw.gauss(100.0, 5.0) for _ in range(6)] for _ in range(20)] for _ in range(2))
        found.append(worst(a, b)[0].value)
        lowest.append(min(ratio(a[i : i + 1], b[i : i + 1]).value for i in range(20)))
    assert sum(found) / len(found) == pytest.approx(1.0, abs=0.01)
    assert sum(lowest) / len(lowest) < 0.97


def test_a_phase_that_is_below_in_every_repeat_is_not_overlooked() -> None:
    """Though in each half of the repeats another one is worse, which in the other half is not."""
    measured = _measured({(COLD, FIRST[2]): 0.92})
    for pair in ("high", "low"):
        runs = measured.runs[pair][COLD]
        for number, run in enumerate(runs):
            factors = dict(zip(FIRST[:2], (0.85, 1.15) if number % 2 else (1.15, 0.85), strict=True))
            runs[number] = {
                cell: replace(phase, tokens=round(factors.get(cell, 1.0) * phase.tokens))
                for cell, phase in run.items()
            }
        found = ratios(measured, pair)[2]
        assert found.estimate.value > 1.1
        assert found.met is False
        assert "below, whatever the noise: 32 at once, visit 1" in found.name


def test_what_cannot_be_compared_is_refused() -> None:
    """Other phases, too few repeats, a phase without tokens."""
    for arm, other in (
        ([[1.0] * 4], [[1.0] * 4] * 2),
        ([[1.0] * 3], [[1.0] * 3]),
        ([[1.0, 0.0, 1.0, 1.0]], [[1.0] * 4]),
    ):
        with pytest.raises(ValueError, match=r"same phases|inhomogeneous"):
            ratio(arm, other)


def test_the_document_is_what_was_measured() -> None:
    """Every phase with one value for each repeat; targets of both pairs; what the profile was."""
    measured = _measured()
    measured.repeated = 2
    written = json.loads(json.dumps(document.as_json(measured, 60.0)))
    assert [(p["pair"], p["arm"], p["requests"], p["visit"]) for p in written["phases"]] == [
        (pair, arm, cell.requests, cell.visit)
        for pair in ("high", "low")
        for arm in ARMS
        for cell in cells_of(arm)
    ]
    for phase in written["phases"]:
        assert len(phase["tokens_per_second"]) == len(phase["steps"]) == 6
        assert phase["within_first_steps"] is (phase["visit"] <= 2)
    assert [r["pair"] for r in written["ratios"]] == ["high"] * 5 + ["low"] * 5
    for told in written["ratios"]:
        bound = told["least"]
        assert told["met"] is (None if bound is None else told["estimate"]["value"] >= bound)
    assert written["profile"] == {
        "source": "sweep",
        "measured_at": "2026-01-31T12:00:00+00:00",
        "cells": 12,
        "steps": 240,
    }
    assert written["runs_made_again"] == 2
    assert written["settings"]["first_steps"] == 300


def test_the_tables_fit_a_terminal_and_say_it_all() -> None:
    """Every phase of both pairs, and every verdict, within 80 columns."""
    measured = _measured({(COLD, cell): 0.9 for cell in LATER})
    measured.repeated = 1
    out = io.StringIO()
    console = Console(file=out, width=80)
    for part in table.render(measured):
        console.print(part)
    text = out.getvalue()
    assert "…" not in text
    rows = [line.split() for line in text.splitlines()]
    for cell in (*FIRST, *LATER):
        assert sum(row[:2] == [str(cell.requests), str(cell.visit)] for row in rows) == 2
    assert text.count("missed") == 2
    assert text.count(" met") == 2 * (_TARGETS - 1)
    assert "1 run(s) made again" in text


def test_one_profile_serves_both_pairs() -> None:
    """Pairs differ in their weights, so only in how models are called."""
    made = profile()
    other = key(model="target-low", draft_model="draft")
    assert profiles.of_engine(made, other).key == other
    assert profiles.of_engine(made, other).cells == made.cells


def test_a_profile_that_is_none_or_of_others_is_refused(tmp_path: Path) -> None:
    """What it is, and in what it differs."""
    with pytest.raises(OptionError, match="hardware 'NVIDIA H200', not 'cpu'"):
        profiles.of_engine(profile(), key(hardware="cpu"))
    with pytest.raises(OptionError, match="from ordinary traffic"):
        profiles.of_engine(profile(source=Source.ONLINE), key())
    with pytest.raises(OptionError, match="No such file"):
        profiles.read(tmp_path / "missing")
    (tmp_path / "other").write_text("{}")
    with pytest.raises(OptionError, match="is no profile that can be used: format"):
        profiles.read(tmp_path / "other")
    (tmp_path / "good").write_bytes(dumps(profile()))
    assert profiles.read(tmp_path / "good") == profile()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "medium"], "expected some of high, low, each once"),
        (["--pairs", "low,low"], "expected some of high, low, each once"),
        (["--repeats", "3"], "must be from 4 to 100"),
    ],
)
def test_bad_arguments_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad value is refused before anything starts."""
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "cold-start", *arguments])
    assert message in capsys.readouterr().err


@pytest.fixture
def url(tmp_path: Path, _subprocesses_see_the_tree: None) -> Iterator[str]:
    """A server that streams 3 tokens to every request each 50 ms."""
    with Children(tmp_path) as children:
        port = free_port()
        child = children.start("server", [sys.executable, str(_SERVER), str(port), "3", "0.05", "0"], {})
        url = f"http://127.0.0.1:{port}"
        child.wait_until(lambda: responds(f"{url}/health"), PATIENCE_SECONDS)
        yield url


class _NotedCrowd(Crowd):
    """Notes itself in `crowds`, and how many clients it had at most."""

    crowds: ClassVar[list[_NotedCrowd]]
    most = 0

    def resize(self, clients: int) -> None:
        self.most = max(self.most, clients)
        super().resize(clients)

    async def __aenter__(self) -> Crowd:
        self.crowds.append(self)
        return await super().__aenter__()


@pytest.fixture
def crowds(monkeypatch: pytest.MonkeyPatch) -> list[_NotedCrowd]:
    """Those of the phases, in order."""
    _NotedCrowd.crowds = []
    monkeypatch.setattr(phases, "Crowd", _NotedCrowd)
    return _NotedCrowd.crowds


class _Steps:
    """An engine that has made so many steps more each time that it is asked, which have brought tokens."""

    def __init__(self, at_once: int, crowds: Sequence[Crowd] = ()) -> None:
        self.made = 7
        self._at_once = at_once
        self._crowds = crowds

    async def steps(self) -> int:
        while self._crowds and not self._crowds[-1].tokens.total():
            await asyncio.sleep(0.01)
        self.made += self._at_once
        return self.made

    async def lengths(self) -> Lengths:
        return Lengths(2.5, 3, drafter_skipped=False, unready_requests=0)


def _run(url: str, watch: _Steps) -> Run:
    workload = Workload("made", vocabulary=512, output_tokens=(300, 300))
    return asyncio.run(phases.run_phases(url, workload, watch, FIRST))


def test_phases_end_by_the_engines_steps(url: str, crowds: list[_NotedCrowd]) -> None:
    """Together they have the steps that were asked for, and not many more, at every load once per visit."""
    watch = _Steps(20, crowds)
    run = _run(url, watch)
    assert tuple(run) == FIRST
    assert FIRST_STEPS <= sum(phase.steps for phase in run.values()) < FIRST_STEPS + 20
    for phase in run.values():
        assert abs(phase.steps - 50) <= 20
        assert phase.tokens > 0
        assert (phase.mean_verification_length, phase.drafter_skipped) == (2.5, False)
    assert [crowd.most for crowd in crowds] == [cell.requests for cell in FIRST]


def test_an_engine_that_reports_nothing_is_no_measurement(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load runs and steps do not come: it is not under the controller."""
    monkeypatch.setattr(phases, "_PATIENCE_SECONDS", 0.3)
    with pytest.raises(NotControlledError, match="has reported 0 of 50 steps"):
        _run(url, _Steps(0))


class _StatedEngine(ProfiledEngine):
    """In place of vLLM: an engine that is up at once."""

    def wait_healthy(self) -> None:
        """It is."""


@pytest.mark.usefixtures("_subprocesses_see_the_tree")
def test_the_whole_benchmark_on_an_engine_with_stated_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It profiles the engine, starts controllers with and without that profile, of which each knows what it
    should when its load begins, and reports all phases; the engine is the same one all the while."""
    with ExitStack() as stack:

        def start(*_args: object, **_settings: object) -> ProfiledEngine:
            machine = Machine(Costs(linear(0.02, 0.0005)), noise=0.02)
            able = capabilities(6, deep_off=True, max_batch=32)
            control = _controls[0]
            return stack.enter_context(
                _StatedEngine(control, able, machine, engine_id=engine.ENGINE_ID, max_context=1024)
            )

        _controls: list[str] = []
        choose = Controller.choose

        def remembered(sockets: Path) -> Controller:
            controller = choose(sockets)
            _controls.append(controller.control)
            return controller

        monkeypatch.setattr(Controller, "choose", remembered)
        monkeypatch.setattr(engines, "provide_models", lambda *_: MadeModels(tmp_path, tmp_path))
        monkeypatch.setattr(vllm, "start_controlled", start)
        monkeypatch.setattr(engine, "WARM_UP_SECONDS", 0.2)
        # Steps long enough for some looks in each phase, and few of them; one visit makes a profile too.
        monkeypatch.setattr(profiled_engine, "_STEP_SECONDS", 0.008)
        monkeypatch.setattr(phases, "PHASE_STEPS", 20)
        monkeypatch.setattr(profiles, "PROFILE_REPEATS", 1)
        monkeypatch.setattr(backoff, "LONGEST_SECONDS", 0.3)
        # Many such steps fit into the time for which a busy machine may keep the controller waiting. What is
        # looked at here is not how well it was measured.
        monkeypatch.setattr(steering, "_MOST_UNCONTROLLED_STEPS", 0.5)
        out = io.StringIO()
        result = tmp_path / "result.json"
        measured = runner.run(Options(("high",)), tmp_path, result, Console(file=out, width=80))
    assert measured.profile is not None
    assert {cell.requests for cell in measured.profile.cells if not cell.prefill_tokens} == set(LOADS)
    assert measured.profile.key.max_length == 6
    written = json.loads(result.read_text())
    assert len(written["phases"]) == 2 * len((*FIRST, *LATER)) + len(FIRST)
    assert all(min(phase["tokens_per_second"]) > 0 for phase in written["phases"])
    assert all(all(phase["drafter_skipped_at_end"]) for phase in written["phases"] if phase["arm"] == OFF)
    logs = tmp_path / "logs" / "bench-cold-start" / "high"
    for number in range(1, 5):
        started = {arm: (logs / f"controller-{arm}-{number}.log").read_text() for arm in (COLD, WARM)}
        assert "profile.used" in started[WARM]
        assert "profile.used" not in started[COLD]
    assert "cold / warm after 300 steps" in " ".join(out.getvalue().split())
