"""`turbospec bench e2e`: what it runs, in which order, and what it writes."""

from __future__ import annotations

import io
import json
import random
import re
from collections import Counter

import pytest
from rich.console import Console
from turbospec.engines.bench.e2e import calibration, document, table
from turbospec.engines.bench.e2e.lineup import Window
from turbospec.engines.bench.e2e.measured import Calibration, Measured
from turbospec.engines.bench.e2e.schedule import (
    NONE,
    SGLANG,
    STATICS,
    VLLM,
    Options,
    blocks,
    planned_seconds,
)
from turbospec.engines.bench.e2e.scoring import Scores


def test_its_defaults_are_the_whole_comparison() -> None:
    """Two pairs, four concurrencies, eleven policies, six repeats, within fifty minutes."""
    options = Options()
    assert len(options.pairs) == 2
    assert options.concurrencies == (1, 4, 16, 32)
    assert options.repeats == 6
    statics = [f"static:{length}" for length in range(1, 7)]
    assert sorted(options.policies) == sorted(["none", "idle", "off", *statics, "table", "goodput"])
    assert planned_seconds(options) < 50 * 60


def test_sglang_is_compared_with_what_it_has_of_its_own() -> None:
    """Its own adaptation in place of a table, and no `off`: its drafter cannot be skipped."""
    policies = Options(engine=SGLANG).policies
    assert set(policies) ^ set(Options().policies) == {"adaptive", "table", "off"}
    assert {"adaptive", "none", "idle", "goodput"} < set(policies)
    assert "off" not in policies
    assert planned_seconds(Options(engine=SGLANG, repeats=4)) > planned_seconds(Options(repeats=4))


@pytest.mark.parametrize("engine", [VLLM, SGLANG])
def test_every_policy_runs_once_in_every_block(engine: str) -> None:
    """Each repeat has every concurrency, each block every policy, in orders that differ but repeat."""
    options = Options(engine=engine)
    made = list(blocks(options, "high"))
    assert made == list(blocks(options, "high"))
    assert made != list(blocks(options, "low"))
    assert Counter((block.repeat, block.concurrency) for block in made) == Counter(
        (repeat, n) for repeat in range(1, 7) for n in options.concurrencies
    )
    assert all(sorted(block.policies) == sorted(options.policies) for block in made)
    assert len({block.policies for block in made}) == len(made)


def test_policies_that_share_an_engine_stay_together() -> None:
    """A change of engines costs a rest, so the shared engine has its policies in one turn, at any place."""
    turns, fixed = set(), Options().fixed
    for block in blocks(Options(), "high"):
        first = min(block.policies.index(policy) for policy in fixed)
        assert set(block.policies[first : first + len(fixed)]) == set(fixed)
        turns.add(first)
    assert turns == {0, 1, 2, 3}


def test_the_table_gets_the_fastest_length() -> None:
    """Noise of a short look does not decide: the finalists are measured again, for longer."""
    true = {0: 100, 1: 120, 2: 130, 3: 131, 4: 126, 5: 110, 6: 90}
    asked = []

    def measure(length: int, seconds: float) -> float:
        asked.append((length, seconds))
        noise = 2.0 if seconds == 1.0 else 0.0
        return true[length] + (noise if length == 2 else 0.0)

    best, speeds = calibration.best_length(measure, range(7), 2.0)
    assert best == 3
    assert asked[:7] == [(length, 1.0) for length in range(7)]
    assert sorted(asked[7:]) == [(2, 2.0), (3, 2.0), (4, 2.0)]
    assert speeds[2] == pytest.approx((132 + 2 * 130) / 3)
    assert calibration.best_length(lambda *_: 1.0, range(7), 2.0)[0] == 0


def test_vllm_reads_the_table_as_meant() -> None:
    """At every concurrency that was calibrated, and with a few requests less, its length applies."""
    from vllm.v1.spec_decode.dynamic.utils import build_dynamic_sd_schedule_lookup

    lengths = {1: 6, 4: 3, 16: 1, 32: 0}
    entries = calibration.as_table(lengths, 64)
    assert entries == [(1, 2, 6), (3, 8, 3), (9, 22, 1), (23, 64, 0)]
    lookup = build_dynamic_sd_schedule_lookup(entries, 64, 6)
    assert [lookup[n] for n in (1, 3, 4, 13, 16, 29, 32, 64)] == [6, 3, 3, 1, 1, 0, 0, 0]
    assert calibration.as_table({8: 2}, 64) == [(1, 64, 2)]


def _measured() -> Measured:
    options = Options(pairs=("high",), concurrencies=(16, 4), repeats=4)
    measured = Measured(options, calibrations={"high": Calibration([(1, 64, 2)], {4: {2: 9.0}})})
    draw = random.Random(1)
    for block in blocks(options, "high"):
        for policy in block.policies:
            speed = 100.0 * block.concurrency * draw.uniform(0.9, 1.1) + block.repeat
            measured.add("high", block.concurrency, policy, Window(speed, None if policy == NONE else 2.0))
    return measured


def test_the_document_is_what_was_measured() -> None:
    """Cells have exactly the promised keys and one speed per repeat; the rest follows from them."""
    measured = _measured()
    scores = Scores(measured.speeds(), (NONE, *STATICS))
    written = json.loads(json.dumps(document.as_json(measured, scores, 60.0)))
    assert [(c["pair"], c["concurrency"], c["policy"]) for c in written["cells"]] == [
        ("high", n, policy) for n in (4, 16) for policy in measured.options.policies
    ]
    for cell in written["cells"]:
        assert set(cell) == {"pair", "concurrency", "policy", "tokens_per_second"}
        windows = measured.windows[cell["pair"], cell["concurrency"]][cell["policy"]]
        assert cell["tokens_per_second"] == [window.tokens_per_second for window in windows]
    assert len(written["targets"]) == 4
    for target in written["targets"]:
        assert target["met"] is (target["estimate"]["value"] >= target["bound"])
    assert set(written["summary"]["policies_over_best"]) == set(measured.options.policies)
    assert [(c["pair"], c["concurrency"]) for c in written["summary"]["cells"]] == [("high", 4), ("high", 16)]
    assert written["settings"]["repeats"] == 4


def test_the_table_fits_a_terminal_and_says_it_all() -> None:
    """Every policy, every cell, the calibrated entries and the verdicts, within 80 columns."""
    measured = _measured()
    measured.repeated = 1
    out = io.StringIO()
    console = Console(file=out, width=80)
    for part in table.render(measured, Scores(measured.speeds(), (NONE, *STATICS))):
        console.print(part)
    text = out.getvalue()
    assert "…" not in text
    first_words = [line.split()[0] for line in text.splitlines() if line.split()]
    assert all(policy in first_words for policy in measured.options.policies)
    assert "high at 16" in text
    assert "1-64: 2" in text
    verdicts = [
        line.split()[-1] for line in text.partition("Targets")[2].splitlines() if "=" in line or ">" in line
    ]
    assert len(verdicts) == 4
    assert set(verdicts) <= {"met", "missed"}
    assert re.search(r"high at 4 .* [01]\.\d{3} [01]\.\d{3}-[01]\.\d{3} ", text)
    assert "1 window(s) measured again" in text
