"""What is measured, what is left out, when a cell is known, and how the fit is judged: without an engine."""

from __future__ import annotations

import dataclasses
import random
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import pytest
from support.profiles import key
from support.scripted.hello import capabilities
from turbospec.engines.profiling import statistics
from turbospec.engines.profiling.errors import OptionError, ProfilingError
from turbospec.engines.profiling.fit import evaluate
from turbospec.engines.profiling.measured import Measured
from turbospec.engines.profiling.plan import (
    RESERVED_TOKENS,
    VISIT_STEPS,
    Load,
    Mode,
    PlannedCell,
    Range,
    default_contexts,
    make_grid,
    room,
    waves,
)
from turbospec.engines.profiling.sorting import Sorter, Step, Verdict
from turbospec.engines.profiling.working import WorkingFile
from turbospec.sidecar.profiles.document import dumps
from turbospec.sidecar.profiles.profile import Cell, Profile, Source

ENGINE = capabilities(4, max_batch=12)


def test_the_grid_covers_what_the_engine_can_do() -> None:
    """Requests double up to the largest batch, every length, the drafter skipped only where it can be."""
    cells = make_grid(ENGINE, 4096, Range(contexts=(64, 512)))
    assert {cell.load.requests for cell in cells} == {1, 2, 4, 8, 12}
    assert {cell.load.context for cell in cells} == {64, 512}
    assert {cell.mode for cell in cells} == {Mode(length) for length in range(5)}
    assert len(cells) == len(set(cells)) == 5 * 2 * 5
    skipping = make_grid(dataclasses.replace(ENGINE, deep_off=True), 4096, Range(4, (64,)))
    assert {cell.mode for cell in skipping} == {*(Mode(length) for length in range(5)), Mode(0, True)}
    assert {cell.load.requests for cell in skipping} == {1, 2, 4}
    assert Mode(0, True).policy == "off"
    assert Mode(3).policy == "static:3"


def test_ragged_widths_are_measured_where_they_cost_graphs() -> None:
    """At the longest length, for two requests and more; elsewhere they are one surface with the others."""
    graphs = dataclasses.replace(ENGINE, ragged_breaks_graphs=True)
    ragged = [cell for cell in make_grid(graphs, 4096, Range(4, (64,))) if cell.load.ragged]
    assert ragged == [PlannedCell(Load(n, 64, ragged=True), Mode(4)) for n in (2, 4)]
    assert not any(cell.load.ragged for cell in make_grid(ENGINE, 4096, Range()))


def test_more_than_the_engine_has_is_refused_by_option_and_limit() -> None:
    """The message names the option, the limit and what was asked for."""
    with pytest.raises(
        OptionError, match=r"^--max-requests: at most 12, the engine's largest batch, not 13$"
    ):
        make_grid(ENGINE, 4096, Range(max_requests=13))
    longest = 4096 - RESERVED_TOKENS - room(4)
    with pytest.raises(OptionError, match=rf"^--contexts: at most {longest}, .* not {longest + 1}$"):
        make_grid(ENGINE, 4096, Range(contexts=(1, longest + 1)))
    with pytest.raises(OptionError, match="too short"):
        make_grid(ENGINE, room(4) + RESERVED_TOKENS, Range())
    assert make_grid(ENGINE, 4096, Range(contexts=(longest,)))


@pytest.mark.parametrize("longest", [1, 7, 128, 392, 8192, 1_000_000])
def test_default_contexts_end_at_the_limit_or_where_prompts_become_dear(longest: int) -> None:
    contexts = default_contexts(longest)
    assert list(contexts) == sorted(set(contexts))
    assert 1 <= len(contexts) <= 3
    assert contexts[-1] == min(longest, 8192)
    assert contexts[0] >= 1


def test_each_repeat_visits_every_cell_once_in_an_order_of_its_own() -> None:
    """The same in every run; the cell without the drafter last, since after it nobody can speculate."""
    cells = make_grid(dataclasses.replace(ENGINE, deep_off=True), 4096, Range(contexts=(64, 512)))
    orders = [[cell for _, own in waves(cells, repeat) for cell in own] for repeat in (1, 2, 3)]
    for order in orders:
        assert sorted(order) == sorted(cells)
    assert orders[0] != orders[1] != orders[2]
    assert orders[0] == [cell for _, own in waves(cells, 1) for cell in own]
    for load, own in waves(cells, 1):
        assert {cell.load for cell in own} == {load}
        assert [cell.mode.skip_drafter for cell in own] == [False] * 5 + [True]
    lengths = [[cell.mode.length for cell in own] for _, own in waves(cells, 1)]
    assert any(each[:-1] != sorted(each[:-1]) for each in lengths), "lengths come in random order too"


CELL = PlannedCell(Load(4, 100), Mode(3))


def step(**changes: object) -> Step:
    """An undisturbed step of four own requests at length 3, with changes."""
    fields: dict[str, object] = {
        "steps": 1,
        "seconds": 0.01,
        "disturbances": frozenset(),
        "requests": 4,
        "decoding_requests": 4,
        "labelled_requests": 4,
        "context_tokens": 440,
        "target_tokens": 16,
        "prefill_tokens": 0,
        "proposal_length": 3,
        "ragged": False,
        "drafter_skipped": False,
        "plan_version": 9,
        "labelled_unready_requests": 0,
    }
    return Step(**(fields | changes))  # type: ignore[arg-type]


def settled(cell: PlannedCell = CELL, **more: bool) -> Sorter:
    """A sorter past the first steps at its length."""
    sorter = Sorter(cell, proposal_settable=more.get("proposal_settable", True))
    assert [sorter.add(step()) for _ in range(2)] == [Verdict.PASSING] * 2
    return sorter


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.MEASURED),
        ({"labelled_requests": 3}, Verdict.FOREIGN),
        ({"requests": 5, "decoding_requests": 5}, Verdict.FOREIGN),
        ({"labelled_requests": 0}, Verdict.FOREIGN),
        ({"steps": 2, "requests": 8, "labelled_requests": 8}, Verdict.UNTIMED),
        ({"seconds": None}, Verdict.UNTIMED),
        ({"disturbances": frozenset({"DISTURBANCE_PREEMPTION"})}, Verdict.DISTURBED),
        ({"disturbances": frozenset({"DISTURBANCE_PREFILL"}), "prefill_tokens": 60}, Verdict.PREFILL),
        (
            {"disturbances": frozenset({"DISTURBANCE_PREFILL", "DISTURBANCE_AFTER_IDLE"})},
            Verdict.DISTURBED,
        ),
        ({"requests": 3, "decoding_requests": 3, "labelled_requests": 3}, Verdict.PARTIAL),
        ({"decoding_requests": 3}, Verdict.PARTIAL),
        ({"proposal_length": 2}, Verdict.OTHER_LENGTH),
        ({"plan_version": 0}, Verdict.OTHER_LENGTH),
        ({"labelled_unready_requests": 1, "target_tokens": 13}, Verdict.UNREADY),
        ({"drafter_skipped": True}, Verdict.OTHER_LENGTH),
    ],
)
def test_only_undisturbed_steps_of_own_requests_at_the_length_are_measured(
    changes: dict[str, object], verdict: Verdict
) -> None:
    """Whatever else a step is, it does not enter the cell, and it is counted as what it is."""
    sorter = settled()
    assert sorter.add(step(**changes)) is verdict
    assert sorter.counts[verdict] == (1 if verdict is not Verdict.UNTIMED else changes.get("steps", 1))
    decode = [group for group in sorter.groups() if not group.prefill_tokens]
    assert sum(group.steps for group in decode) == (verdict is Verdict.MEASURED)


def test_foreign_requests_spoil_no_cell() -> None:
    """Steps that foreign requests made three times as long leave the time as it is.

    Negative control: a sorter that takes every request for its own finds another time.
    """
    draw = random.Random(0)
    mixed = []
    for _ in range(60):
        foreign = draw.random() < 0.6
        # As many requests as the cell has, one of them somebody else's with a long context.
        mixed.append(step(seconds=0.03 if foreign else 0.01, labelled_requests=3 if foreign else 4))
    sorter, blind = settled(), settled()
    for each in mixed:
        sorter.add(each)
        blind.add(dataclasses.replace(each, labelled_requests=each.requests))
    (found,), (fooled,) = sorter.groups(), blind.groups()
    assert found.seconds == 0.01
    assert found.steps + sorter.counts[Verdict.FOREIGN] == 60
    assert fooled.seconds != 0.01


def test_kinds_of_steps_are_kept_apart() -> None:
    """A copying drafter finds drafts now and then; steps with and without are different cells."""
    sorter = settled()
    for tokens in (16, 16, 4, 16, 4):
        sorter.add(step(target_tokens=tokens, seconds=tokens / 1000))
    sorter.add(step(target_tokens=15, ragged=True))
    found = {(group.target_tokens, group.ragged): group for group in sorter.groups()}
    assert found.keys() == {(16, False), (4, False), (15, True)}
    assert (found[16, False].steps, found[16, False].seconds) == (3, 0.016)
    assert (found[4, False].steps, found[4, False].seconds) == (2, 0.004)


def test_an_engine_whose_proposals_are_fixed_is_measured_by_what_it_verifies() -> None:
    """It always proposes its longest length; the cell's length is then that of verification."""
    sorter = settled(proposal_settable=False)
    assert sorter.add(step(proposal_length=5)) is Verdict.MEASURED
    assert settled().add(step(proposal_length=5)) is Verdict.OTHER_LENGTH


def test_slow_outliers_and_a_slow_visit_move_nothing() -> None:
    """One step in ten takes ten times as long, and one visit of four half as long again."""
    draw = random.Random(1)

    def visit(factor: float) -> tuple[Cell, ...]:
        sorter = settled()
        for _ in range(VISIT_STEPS):
            noisy = 0.01 * factor * (1 + abs(draw.gauss(0, 0.01)))
            sorter.add(step(seconds=10 * noisy if draw.random() < 0.1 else noisy))
        return sorter.groups()

    measured = Measured([CELL])
    for factor in (1.0, 1.5, 1.0, 1.0):
        measured.add(CELL, visit(factor))
    (cell,) = measured.cells()
    assert cell.seconds == pytest.approx(0.01, rel=0.02)
    assert cell.steps == 4 * VISIT_STEPS
    assert cell.coordinates == (4, 16, 440, 0, 3, False, False)


def group(seconds: float, spread: float = 0.0, **changes: object) -> Cell:
    fields: dict[str, object] = {
        "requests": 4, "target_tokens": 16, "context_tokens": 440, "prefill_tokens": 0,
        "proposal_length": 3, "ragged": False, "drafter_skipped": False, "steps": VISIT_STEPS,
    }  # fmt: skip
    return Cell(**(fields | changes), seconds=seconds, spread_seconds=spread)  # type: ignore[arg-type]


def test_a_visit_that_met_a_kind_of_step_once_says_little_of_it() -> None:
    """One step may be a slow one: it does not count as much as the six of another visit."""
    measured = Measured([CELL])
    for steps, seconds in ((6, 0.01), (1, 0.02)):
        measured.add(CELL, (group(seconds, steps=steps),))
    (cell,) = measured.cells()
    assert (cell.steps, cell.seconds) == (7, 0.01)


def test_a_cell_is_known_when_visits_and_steps_agree() -> None:
    """At least three visits, and an uncertainty of at most 1% by both measures."""
    measured = Measured([CELL])
    for visits in range(3):
        assert not measured.known(CELL)
        assert measured.missing(CELL, 5) == 5 - visits
        assert measured.uncertainty(CELL) is None
        measured.add(CELL, (group(0.01, 0.0001),))
    assert measured.known(CELL)
    assert measured.missing(CELL, 5) == 0
    # 1.253 x 1.483 x a hundredth, over the root of 48 steps.
    assert measured.uncertainty(CELL) == pytest.approx(0.00268, rel=0.01)
    assert not statistics.known([0.010, 0.012, 0.014], [0.0001] * 3, 48), "visits differ"
    assert not statistics.known([0.010] * 3, [0.003] * 3, 48), "steps differ"
    assert statistics.known([0.010, 0.01005, 0.014], [0.0001] * 3, 48), "one visit was slow as a whole"


def test_early_stop_is_honest() -> None:
    """Where noise is what the rule assumes, the true location is within three of the stated uncertainty."""
    draw = random.Random(2)
    beyond = trials = 0
    for _ in range(300):
        visits = [[0.01 * (1 + draw.gauss(0, 0.03)) for _ in range(VISIT_STEPS)] for _ in range(5)]
        locations, spreads = list(map(median, visits)), list(map(statistics.spread, visits))
        if statistics.known(locations, spreads, 5 * VISIT_STEPS):
            trials += 1
            error = abs(median(locations) / 0.01 - 1)
            beyond += error > 3 * statistics.KNOWN_WITHIN
    assert trials > 200
    assert beyond <= 0.02 * trials


def test_what_finds_no_place_takes_larger_loads_with_it() -> None:
    """A load that the engine cannot hold is not tried with more requests or longer contexts either."""
    loads = [Load(n, c) for n in (2, 4, 8) for c in (64, 512)]
    measured = Measured([PlannedCell(load, Mode(1)) for load in loads])
    measured.unreachable.add(Load(4, 512))
    assert [load for load in loads if not measured.reachable(load)] == [Load(4, 512), Load(8, 512)]


def test_cells_make_a_valid_profile_without_accidents() -> None:
    """Steps of a kind that was met once or twice are not kept, and no two cells are about the same."""
    other, beside = PlannedCell(Load(4, 101), Mode(3)), PlannedCell(Load(4, 100, prefill=100), Mode(3))
    measured = Measured([CELL, other, beside])
    accident = group(0.5, steps=2, target_tokens=9, ragged=True)
    measured.add(CELL, (group(0.01), accident))
    measured.add(other, (group(0.011, steps=40),))
    for steps, tokens, seconds in ((3, 100, 0.05), (2, 101, 0.06)):
        prompts = group(seconds, steps=steps, prefill_tokens=tokens, target_tokens=16 + tokens)
        measured.add(beside, (prompts,))
    cells = measured.cells()
    assert [cell.prefill_tokens for cell in cells] == [0, 100]
    assert cells[0].seconds == 0.011, "of two about the same steps, the one with more"
    assert (cells[1].steps, cells[1].seconds) == (5, 0.05)
    now = Profile(
        key(max_length=5), datetime.now(UTC),
        "0", Source.SWEEP, cells,
    )  # fmt: skip
    assert dumps(now)


def test_a_run_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    """What was saved comes back for cells that are still planned; other cells' visits are left out."""
    other = PlannedCell(Load(8, 100), Mode(0, True))
    file = WorkingFile(tmp_path / "new", key())
    assert file.load([CELL]).visits == {CELL: []}
    measured = Measured([CELL, other])
    for _ in range(2):
        measured.add(CELL, (group(0.01, 0.001), group(0.05, steps=1, prefill_tokens=8)))
        file.save(measured)
    again = file.load([CELL])
    assert again.visits == {CELL: measured.visits[CELL]}
    assert again.missing(CELL, 5) == 3
    assert not again.due(CELL, 2)
    assert again.due(CELL, 3)
    assert file.load([other]).visits == {other: []}
    assert WorkingFile(tmp_path / "new", key(model="another")).load([CELL]).visits == {CELL: []}
    file.remove()
    assert file.load([CELL]).visits == {CELL: []}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": "other", "version": 1}', b"\xff"])
def test_a_spoiled_working_file_is_named(tmp_path: Path, content: bytes) -> None:
    """It is neither believed nor overwritten; the message says what begins anew."""
    file = WorkingFile(tmp_path, key())
    file.path.write_bytes(content)
    with pytest.raises(ProfilingError, match="--restart begins anew"):
        file.load([CELL])
    assert file.path.read_bytes() == content


def costs_of(requests: int, length: int, context: int) -> float:
    """A linear machine."""
    tokens = requests * (1 + length)
    return 0.02 + 0.0005 * tokens + 1e-6 * requests * context + 0.002 * max(length, 1)


def grid(spoiled: int | None = None) -> list[Cell]:
    """Exact cells of that machine; one of them, if wanted, twice what it should be."""
    cells = [
        group(
            costs_of(n, k, c), requests=n, target_tokens=n * (1 + k), context_tokens=n * c,
            proposal_length=k,
        )
        for n in (1, 2, 4, 8) for k in range(5) for c in (64, 1024)
    ]  # fmt: skip
    if spoiled is not None:
        cells[spoiled] = dataclasses.replace(cells[spoiled], seconds=2 * cells[spoiled].seconds)
    return cells


def test_the_fit_is_judged_on_cells_it_has_not_seen() -> None:
    """Every cell is held out once, and a machine of the model's own form is predicted.

    Negative control: a cell that is wrong is found, which a fit to itself would hide.
    """
    report = evaluate(grid(), ENGINE, 4096)
    assert len(report.held_out) == 40
    assert len({each.cell.coordinates for each in report.held_out}) == 40
    assert report.overall is not None
    assert report.overall.cells == 40
    assert report.overall.median < 0.02
    assert report.overall.p95 < 0.06
    wrong = grid(spoiled=25)
    found = max(evaluate(wrong, ENGINE, 4096).held_out, key=lambda each: abs(each.error))
    assert found.cell == wrong[25]
    assert found.error == pytest.approx(-0.5, abs=0.1)


def test_where_the_model_extrapolates_is_said() -> None:
    """Cells outside of those it was fitted to, and what the engine can do beyond all of them."""
    report = evaluate(grid(), ENGINE, 4096)
    extrapolated = [each.cell for each in report.held_out if each.extrapolated]
    inside = [each.cell for each in report.held_out if not each.extrapolated]
    assert extrapolated
    assert inside
    assert all(
        cell.requests in (1, 8) or cell.context_tokens // cell.requests in (64, 1024) for cell in extrapolated
    )
    regions = {region.name: region.cells for region in report.regions}
    assert regions["inside"] == len(inside)
    assert regions["extrapolated"] == len(extrapolated)
    assert {name: regions[name] for name in ("8 requests", "1 request", "length 4")} == {
        "8 requests": 10, "1 request": 10, "length 4": 8,
    }  # fmt: skip
    coverage = report.coverage
    assert (coverage.requests, coverage.engine_requests) == (8, 12)
    assert (coverage.context, coverage.engine_context) == (1024, 4096)
    assert (coverage.target_tokens, coverage.engine_target_tokens) == (40, 60)


def test_too_few_cells_make_no_report_and_no_failure() -> None:
    """With one cell nothing can be held out."""
    report = evaluate(grid()[:1], ENGINE, 4096)
    assert report.overall is None
    assert report.held_out == ()
    assert len(evaluate(grid()[:2], ENGINE, 4096).held_out) == 2
