"""`turbospec bench gpu`: what its parts measure, in which order, and what is made of it."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.sidecar import SOURCE_ROOTS
from turbospec.adapters.reports import StepRecord
from turbospec.engines.bench.e2e.lineup import Window
from turbospec.engines.bench.e2e.scoring import MIN_REPEATS
from turbospec.engines.bench.gpu import cells, device, plan, runner, steptime, summary
from turbospec.engines.bench.gpu.agreement import eps_for
from turbospec.engines.bench.gpu.forced import Forced
from turbospec.engines.bench.gpu.plan import FULL, GOODPUT, NONE, PARTS, SMALL, STATICS, TABLE
from turbospec.engines.bench.gpu.serving import Case
from turbospec.engines.instant_models import PAIRS
from turbospec.engines.processes import ProcessFailedError
from turbospec.engines.profiling.errors import OptionError
from turbospec.engines.profiling.plan import Load, Mode, PlannedCell
from turbospec.engines.stage.vllm import DRAFT_MODEL, NGRAM


def _quiet() -> Console:
    return Console(file=io.StringIO())


def test_every_method_and_agreement_has_a_part() -> None:
    """One part for each, a table for each before it, and all names are told apart by the command."""
    for kind in (plan.TUNE, plan.CELLS):
        made = {plan.method_and_agreement(part) for part in PARTS if part.startswith(kind)}
        assert made == {(method, agreement) for method in plan.METHODS for agreement in plan.AGREEMENTS}
    assert len(set(PARTS)) == len(PARTS)
    for part in PARTS:
        if part.startswith(plan.CELLS):
            assert PARTS.index(part.replace(plan.CELLS, plan.TUNE, 1)) < PARTS.index(part)
    assert len(FULL.concurrencies) <= 4
    assert plan.LIMIT_SECONDS < plan.MOST_PART_SECONDS


def test_parts_have_time_for_what_scores_need() -> None:
    """Four repeats of planned windows beside two minutes for engines to start; once the load that varies."""
    windows = len((NONE, TABLE, GOODPUT, *STATICS))
    window = FULL.rest_seconds + FULL.ramp_seconds + FULL.window_seconds
    settling = FULL.ramp_seconds + FULL.settle_seconds
    repeat = len(FULL.concurrencies) * (windows * window + settling)
    warm_up = len(FULL.concurrencies) * 4 * window
    assert FULL.repeats == MIN_REPEATS
    assert 120 + warm_up + FULL.repeats * repeat <= plan.LIMIT_SECONDS
    varying = len((NONE, GOODPUT, *STATICS)) * len(FULL.phases) * FULL.phase_seconds
    assert 120 + warm_up + varying <= plan.LIMIT_SECONDS


def _measured_cells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, repeats_of_time: float
) -> dict[str, Any]:
    """A `cells-…` part whose windows take a second each, of a clock that only they move."""
    now = [0.0]

    class Measured:
        repeated = 0

        def __enter__(self) -> Measured:
            return self

        def __exit__(self, *_: object) -> None: ...

        def answer_once(self) -> None: ...

        def measure(self, policy: str, *_: object, **__: object) -> Window:
            now[0] += 1.0
            return Window(_SPEEDS[policy], None)

    own = (NONE, TABLE)
    monkeypatch.setattr(cells, "stage", lambda *_: nullcontext())
    monkeypatch.setattr(cells, "lineup", lambda *_: (Measured(), own))
    monkeypatch.setattr(cells.time, "monotonic", lambda: now[0])
    warm_up = len(SMALL.concurrencies) * (len(own) + 2)
    repeat = len(SMALL.concurrencies) * (len(_SPEEDS) + 1)  # `goodput` settles first
    case = Case(SMALL, plan.LAYERS, plan.HIGH, 0.1)
    return cells.measure(case, [(1, 8, 2)], tmp_path, tmp_path, warm_up + repeats_of_time * repeat)


@pytest.mark.parametrize(
    ("time_for", "repeats"), [(0.5, 1), (1.9, 1), (2.0, 2), (3.9, 3), (9.0, SMALL.repeats)]
)
def test_no_repeat_is_begun_that_would_take_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time_for: float, repeats: int
) -> None:
    """The first one is measured whatever the time, and without four there are no scores."""
    found = _measured_cells(monkeypatch, tmp_path, repeats_of_time=time_for)
    assert {len(cell["windows"]) for cell in found["cells"]} == {repeats}
    assert bool(found["scores"]) == (repeats >= MIN_REPEATS)


def test_step_times_cover_what_is_asked() -> None:
    """Requests 1 to 256, context to 8k with what is decoded, every length to 8, uniform and ragged."""
    loads = steptime.possible_loads(FULL, kv_tokens=10**6)
    assert {requests for requests, _ in loads} == {1, 2, 4, 8, 16, 32, 64, 128, 256}
    assert max(context for _, context in loads) > 7000
    found = steptime.cells_of((64, 1024))
    assert [cell.mode.length for cell in found if not cell.load.ragged] == list(range(9))
    assert {cell.mode.length for cell in found if cell.load.ragged} == {2, 4, 8}
    assert all(not cell.load.ragged for cell in steptime.cells_of((1, 128)))


def test_loads_that_the_cache_does_not_hold_are_left_out() -> None:
    """A smaller device measures less instead of preempting."""
    loads = steptime.possible_loads(FULL, kv_tokens=40_000)
    assert loads
    assert max(requests * context for requests, context in loads) <= 32_000


def _record(forced: Forced, verified: list[int], *, requests: int = 2) -> StepRecord:
    record = StepRecord()
    record.plan = forced.current()
    record.requests = requests
    record.request_ids = [f"r{i}" for i in range(len(verified))]
    record.verified = verified
    record.context_tokens = [100] * len(verified)
    record.duration_ns = 5_000_000
    return record


def test_only_steps_as_planned_are_measured() -> None:
    """Not those of the length before, with a request less, disturbed, or with drafts cut short."""
    forced = Forced()
    earlier = forced.set(1)
    plan_now = forced.set(3, ["r1"])
    cell = PlannedCell(Load(2, 100, ragged=True), Mode(3))
    assert steptime.as_planned(_record(forced, [3, 2]), plan_now, cell)
    assert not steptime.as_planned(_record(forced, [3, 2]), earlier, cell)
    assert not steptime.as_planned(_record(forced, [3, 3]), plan_now, cell)
    assert not steptime.as_planned(_record(forced, [1, 1]), plan_now, cell)
    assert not steptime.as_planned(_record(forced, [3], requests=1), plan_now, cell)
    disturbed = _record(forced, [3, 2])
    disturbed.disturbances.append(1)
    assert not steptime.as_planned(disturbed, plan_now, cell)
    made = steptime.as_cell([_record(forced, [3, 2])] * 3, cell)
    assert (made.requests, made.target_tokens, made.context_tokens, made.ragged) == (2, 7, 200, True)
    assert made.seconds == pytest.approx(0.005)


def test_eps_is_found_between_the_points() -> None:
    """The share accepted falls with eps: interpolated on a logarithmic scale, never beyond what was tried."""
    points = [(0.5, 0.1), (0.25, 0.3), (0.125, 0.7), (0.0625, 0.9)]
    assert eps_for(0.5, points) == pytest.approx(math.sqrt(0.25 * 0.125))
    assert eps_for(0.95, points) == 0.0625
    assert eps_for(0.05, points) == 0.5


def test_every_policy_runs_at_every_concurrency_in_every_repeat() -> None:
    """In random orders, those that share an engine together."""
    own = (NONE, TABLE)
    repeats = [cells.order((1, 16, 64), own, repeat) for repeat in (1, 2, 3)]
    assert repeats == [cells.order((1, 16, 64), own, repeat) for repeat in (1, 2, 3)]
    assert repeats[0] != repeats[1]
    for made in repeats:
        assert sorted(concurrency for concurrency, _ in made) == [1, 16, 64]
        for _, policies in made:
            assert Counter(policies) == Counter((NONE, TABLE, GOODPUT, *STATICS))
            first = min(policies.index(policy) for policy in STATICS)
            assert set(policies[first : first + len(STATICS)]) == set(STATICS)


def _windows(speeds: dict[str, float], repeats: int = 4) -> dict[str, list[Window]]:
    return {policy: [Window(speed, None)] * repeats for policy, speed in speeds.items()}


_SPEEDS = {NONE: 100.0, TABLE: 140.0, GOODPUT: 147.0} | {
    policy: 100.0 + 10 * i for i, policy in enumerate(STATICS, 1)
}


def test_goodput_is_held_against_every_other_policy() -> None:
    """The best is a static length; none and the table are compared with apart."""
    (score,) = cells.scores({16: _windows(_SPEEDS)}, (NONE, TABLE))
    assert score["best"] == (STATICS[-1], STATICS[-1])
    assert score["goodput_over_best_static"]["value"] == pytest.approx(147 / 150)
    assert score["goodput_over_none"]["value"] == pytest.approx(1.47)
    assert score["goodput_over_table"]["value"] == pytest.approx(1.05)


def test_too_few_repeats_have_no_scores() -> None:
    """A part that ran out of time leaves what it measured, and no ratio that looks better than it is."""
    assert cells.scores({16: _windows(_SPEEDS, repeats=3)}, (NONE, TABLE)) == []


def _cells_result(speeds: dict[str, float]) -> dict[str, Any]:
    windows = {16: _windows(speeds)}
    return {
        "cells": [
            {"concurrency": 16, "policy": policy, "windows": [{"tokens_per_second": speed}] * 4}
            for policy, speed in speeds.items()
        ],
        "scores": cells.scores(windows, (NONE, TABLE)),
    }


def test_targets_are_told_from_the_parts_that_are_there() -> None:
    """Each target names where it is worst; what no part tells is unknown, and not met."""
    results = {
        "cells-1b-high": _cells_result(_SPEEDS),
        "cells-1b-low": _cells_result(_SPEEDS | {GOODPUT: 98.0}),
        "cost": {"cells": [{"requests": n, "dilation": {"ratio": 1 + n / 1000}} for n in (1, 16)]},
        "step-time-async": {"fit": {"regions": [{"name": "all", "median": 0.03}]}},
    }
    found = {target.name.split(",")[0]: target for target in summary.targets(results)}
    best = found["goodput / the best static length"]
    assert (best.where, best.met) == ("cells-1b-low at 16", False)
    assert best.value == pytest.approx(98 / 150)
    assert found["goodput / none"].value == pytest.approx(0.98)
    assert found["dilation"].where == "16 at once"
    assert found["dilation"].met is False
    assert found["held-out step times"].met is True
    varying = [t for t in summary.targets(results) if "load that varies" in t.name]
    assert varying[0].met is None
    assert all(target.met is None for target in summary.targets({}))


def test_a_part_that_is_done_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its result is read and written where it is asked for; of another scale it is not taken for done."""
    ran = []
    monkeypatch.setattr(runner, "_measure", lambda part, *_: ran.append(part) or {"value": len(ran)})
    file = tmp_path / "out.json"
    for _ in range(2):
        runner.run(plan.MODELS, tmp_path, file, small=True, console=_quiet())
    assert ran == [plan.MODELS]
    written = json.loads(file.read_text())
    assert (written["part"], written["scale"], written["value"]) == (plan.MODELS, SMALL.name, 1)
    runner.run(plan.MODELS, tmp_path, file, small=False, console=_quiet())
    assert len(ran) == 2


def test_a_part_that_was_cut_off_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a result is none."""
    results = runner.Results(tmp_path, SMALL)
    results.folder.mkdir(parents=True)
    results.path(plan.COST).write_text('{"format": "turbospec.bench_gpu", "part": "cost", "sca')
    monkeypatch.setattr(runner, "_measure", lambda *_: {"value": 5})
    found = runner.run(plan.COST, tmp_path, None, small=True, console=_quiet())
    assert found["value"] == 5


def test_a_part_without_scores_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time was up before there were enough repeats; what it left until then is not the last word."""
    scores: list[list[dict[str, Any]]] = [[], [{"concurrency": 1}]]
    monkeypatch.setattr(runner, "_measure", lambda *_: {"scores": scores.pop(0)})
    for left in (1, 0, 0):
        runner.run("cells-1b-high", tmp_path, None, small=True, console=_quiet())
        assert len(scores) == left


def test_all_parts_are_run_and_the_failed_ones_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order; one that fails is named and ends nothing else, and the next call runs it and no other."""
    ran: list[str] = []
    broken = {"tune-1b-low": ProcessFailedError("its log"), "cost": KeyError("unforeseen")}

    def measure(part: str, *_: object) -> dict[str, Any]:
        ran.append(part)
        if part in broken:
            raise broken[part]
        return {"targets": []} if part == plan.SUMMARY else {}

    monkeypatch.setattr(runner, "_measure", measure)
    with pytest.raises(ProcessFailedError, match=r"run again: cost, tune-1b-low$"):
        runner.run_all(tmp_path, None, small=True, console=_quiet())
    assert ran == list(PARTS)
    broken.clear()
    ran.clear()
    file = tmp_path / "summary.json"
    runner.run_all(tmp_path, file, small=True, console=_quiet())
    assert ran == ["cost", "tune-1b-low", *plan.ALWAYS_ANEW]
    assert json.loads(file.read_text())["part"] == plan.SUMMARY


def test_parts_need_nothing_that_draws() -> None:
    """They are measured also where matplotlib is missing; the page is made elsewhere then."""
    code = "import sys, turbospec.engines.bench.gpu.runner; sys.exit('matplotlib' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": SOURCE_ROOTS}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=240)


def test_what_tells_most_is_run_first() -> None:
    """A device is there for a limited time: one pair is compared before the others are tuned."""
    first = PARTS[: PARTS.index("cells-layers-high") + 1]
    assert first == (
        "models",
        "step-time-async",
        "step-time-sync",
        "cost",
        "tune-layers-high",
        "cells-layers-high",
    )
    assert PARTS[-2:] == plan.ALWAYS_ANEW


def test_a_part_says_what_must_be_run_before_it(tmp_path: Path) -> None:
    """Instead of measuring something else."""
    with pytest.raises(OptionError, match="run --part tune-1b-high first"):
        runner.run("cells-1b-high", tmp_path, None, small=True, console=_quiet())
    with pytest.raises(OptionError, match="run --part models first"):
        runner.run("tune-1b-high", tmp_path, None, small=True, console=_quiet())


def test_the_summary_is_never_taken_from_before(tmp_path: Path) -> None:
    """It is about the parts that are there now."""
    for _ in range(2):
        found = runner.run(plan.SUMMARY, tmp_path, None, small=True, console=_quiet())
        assert [target["met"] for target in found["targets"]] == [None] * len(found["targets"])


def test_a_device_with_less_memory_gets_fewer_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four engines need more than 80 GiB; with that, three and smaller batches are measured."""
    monkeypatch.setattr(device, "memory_gib", lambda: 79.6)
    assert not device.holds_all_engines(FULL)
    assert max(device.fitted(FULL).concurrencies) == 64
    assert device.fitted(SMALL) == SMALL
    monkeypatch.setattr(device, "memory_gib", lambda: 139.8)
    assert device.fitted(FULL) == FULL
    needed = sum(device._KV_CACHE_GIB + 20 for _ in range(4))
    assert needed <= 139


def test_the_cache_holds_the_largest_load() -> None:
    """A full batch of whole requests fits in what an engine is given, draft and all: none is preempted."""
    pair = PAIRS["8b-1b"]
    assert pair.draft is not None
    per_token = sum(
        2 * 2 * shape.key_value_heads * (shape.hidden // shape.heads) * shape.layers
        for shape in (pair.target, pair.draft)
    )
    request = FULL.prompt_tokens + sum(FULL.output_tokens) / 2
    assert FULL.max_requests * request * per_token <= device._KV_CACHE_GIB << 30


def test_n_gram_requests_are_made_to_repeat_or_not() -> None:
    """For n-gram drafts agreement is a matter of the requests, for others of the models."""
    high = Case(SMALL, plan.NGRAM, plan.HIGH, 0.1)
    low = Case(SMALL, plan.NGRAM, plan.LOW, 0.1)
    assert high.drafter == low.drafter == NGRAM
    assert high.place().workload.body(0)["temperature"] == 0
    assert low.place().workload.body(0)["temperature"] == 1
    other = Case(SMALL, plan.ONE_BILLION, plan.LOW, 0.1)
    assert (other.pair, other.drafter) == ("small-1b", DRAFT_MODEL)
    assert "allowed_token_ids" not in other.place().workload.body(0)


def test_deadlines_are_of_the_clock_that_parts_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part gets its limit from the moment it begins."""
    given: list[float] = []
    monkeypatch.setattr(runner, "_measure", lambda *args: given.append(args[-1]) or {})
    before = time.monotonic()
    runner.run(plan.COST, tmp_path, None, small=True, console=_quiet())
    assert before + plan.LIMIT_SECONDS <= given[0] <= time.monotonic() + plan.LIMIT_SECONDS
