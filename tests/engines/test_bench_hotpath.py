"""What `turbospec bench hotpath` makes of what it measures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from turbospec.engines.bench.hotpath import document, plan, table
from turbospec.engines.bench.hotpath.hooks import Watch
from turbospec.engines.bench.hotpath.measured import (
    Block,
    CellTimes,
    PlanTime,
    StageTimes,
    read_plan_times,
    read_stage,
)
from turbospec.engines.bench.hotpath.scoring import dilation

TOKENS = 500


def blocks(ratio: float, drift: float = 0.1) -> list[Block]:
    """Ten pairs, in alternating order, on a machine that becomes slower by `drift` with every block."""
    made = []
    for i in range(20):
        adapter = i % 4 in (1, 2)
        seconds = 0.03 * (1 + drift) ** i * (ratio if adapter else 1.0)
        made.append(Block(adapter, seconds, seconds, TOKENS))
    return made


def stage(requests: int, *, with_dilation: bool) -> StageTimes:
    cell = CellTimes(requests)
    cell.adapter_ns = {plan.ADAPTER_POLICY: [20_000.0] * 99 + [90_000.0], plan.SIDECAR_POLICY: [10_000.0]}
    cell.switch_ns = {plan.ADAPTER_POLICY: [], plan.SIDECAR_POLICY: []}
    cell.plan_ages = [2, 2, None, 3]
    cell.step_seconds = [0.01]
    if with_dilation:
        cell.pinned, cell.unpinned = blocks(1.005), blocks(1.02)[:4]
    return StageTimes("tiny", 600.0, [cell])


def test_drift_of_the_machine_is_not_dilation() -> None:
    """Blocks alternate, so that a machine that gets ever slower does not look like an expensive adapter."""
    found = dilation(blocks(1.005))
    assert found.ratio == pytest.approx(1.005)
    assert found.low <= found.ratio <= found.high
    assert found.tokens_equal


def test_blocks_that_did_other_work_are_told() -> None:
    """Step times compare only where the steps did the same."""
    made = blocks(1.0)
    made[3] = Block(made[3].adapter, 0.03, 0.03, TOKENS + 1)
    assert not dilation(made).tokens_equal


def test_the_document_has_the_promised_keys() -> None:
    """Dilation is null where it is not measured; sidecar times are those of the cell and of goodput only."""
    plans = [
        PlanTime(1, "PLAN_REASON_BEST_GOODPUT", 250_000),
        PlanTime(1, "PLAN_REASON_FIXED", 9_000_000),
        PlanTime(256, "PLAN_REASON_PROBE", 350_000),
    ]
    stages = [stage(1, with_dilation=True), stage(256, with_dilation=False)]
    made = json.loads(json.dumps(document.as_json(stages, plans, 1.0, plan.VLLM)))
    one, many = made["cells"]
    expected = {"requests", "dilation_ratio"} | {
        f"{name}_{p}" for name in ("adapter_us", "plan_lag_steps", "sidecar_us") for p in ("p50", "p99")
    }
    assert expected <= one.keys()
    assert expected <= many.keys()
    assert one["dilation_ratio"] == pytest.approx(1.005)
    assert many["dilation_ratio"] is None
    assert (one["sidecar_us_p50"], many["sidecar_us_p50"]) == (250.0, 350.0)
    assert (many["adapter_us_p50"], many["plan_lag_steps_p50"]) == (20.0, 2.0)
    assert {target["name"]: target["met"] for target in made["targets"]} == {
        "dilation at 1 requests": True,
        "adapter, median at 256 requests, us": True,
        "sidecar, median at 256 requests, us": False,
    }
    assert any("MISSED" in line for line in table.render(made))


def test_an_engine_that_switches_says_what_that_takes() -> None:
    """Only of such an engine: another has no such numbers, in the document or in the table."""
    switching, other = stage(16, with_dilation=False), stage(16, with_dilation=False)
    switching.cells[0].switch_ns = {
        plan.ADAPTER_POLICY: [30_000.0, 32_000.0, 40_000.0],
        plan.SIDECAR_POLICY: [],
    }
    plans = [PlanTime(16, "PLAN_REASON_PROBE", 350_000)]
    made = document.as_json([switching], plans, 1.0, plan.SGLANG)
    assert made["cells"][0]["switch_us_p50"] == 32.0
    assert any("to another length: 32 us" in line for line in table.render(made))
    assert "switch_us_p50" not in document.as_json([other], plans, 1.0, plan.SGLANG)["cells"][0]


def test_a_watch_adds_up_calls_and_takes_its_own_cost_off() -> None:
    """By steps, for any object's methods, which are its own again afterwards."""

    class Counted:
        calls = 0

        def work(self, times: int, *, of: int = 1) -> None:
            self.calls += 1
            sum(range(times * of))

    counted = Counted()
    watch = Watch(counted, ("work",))
    with watch:
        watch.start()
        assert watch.spent_ns() == 0.0
        counted.work(20_000)
        once = watch.spent_ns()
        counted.work(20_000, of=10)
        assert watch.spent_ns() > once > 0.0
        watch.start()
        assert watch.spent_ns() == 0.0
    counted.work(1)
    assert watch.spent_ns() == 0.0
    assert counted.calls == 3
    assert "work" not in vars(counted)


def test_what_processes_write_is_read_back(tmp_path: Path) -> None:
    """A stage and the sidecar's times survive the way between processes."""
    written = stage(16, with_dilation=True)
    (tmp_path / "stage").write_text(json.dumps(asdict(written)))
    assert read_stage(tmp_path / "stage") == written
    (tmp_path / "plans").write_text('[16, "PLAN_REASON_PROBE", 5]\n')
    assert read_plan_times(tmp_path / "plans") == [PlanTime(16, "PLAN_REASON_PROBE", 5)]


def test_blocks_are_as_long_and_as_many_as_an_interval_needs() -> None:
    """Dilation is measured in at least 20 alternating blocks of 200 steps, and no request ends in one."""
    for each in (stage for stages in plan.STAGES.values() for stage in stages):
        if any(cell.dilation for cell in each.cells):
            assert (plan.BLOCKS, each.block_steps) >= (20, 200)
        assert (each.block_steps + plan.WARM_STEPS) * (plan.LENGTH + 1) + 64 < each.context
