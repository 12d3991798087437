"""Steps that compute prompts beside decoding: designed, measured, judged, and used by controllers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from support.profiles import profile
from support.profiling import COSTS, arguments, check_costs, here, live, stored
from support.scripted.costs import Costs, Shape, linear
from support.scripted.direct import DirectEngine
from support.scripted.hello import capabilities
from support.scripted.machine import Machine
from support.scripted.traffic import TrafficClass
from support.scripted.world import World
from support.serving import Server
from turbospec.engines.profiling.errors import OptionError
from turbospec.engines.profiling.fit import evaluate
from turbospec.engines.profiling.measured import Measured
from turbospec.engines.profiling.plan import RESERVED_TOKENS, Load, Mode, PlannedCell, Range, make_grid, room
from turbospec.engines.profiling.sorting import Sorter, Step, Verdict
from turbospec.sidecar.core.controller import EngineController
from turbospec.sidecar.core.mixed import LEAST_STEPS
from turbospec.sidecar.profiles.profile import Cell
from turbospec.sidecar.profiles.store import Match
from turbospec.sidecar.server.engine import Engine
from turbospec.sidecar.server.profile_keeping import start_from

ENGINE = capabilities(4, max_batch=12)
LENGTHS = range(5)


def loads(prefill: tuple[int, ...] | None = None, *, step_tokens: int = 0, max_batch: int = 12) -> list[Load]:
    """Those with prompts, of the grid of an engine with these limits; each has every length."""
    wanted = Range(contexts=(64, 256, 1024), prefill=prefill)
    grid = make_grid(replace(ENGINE, max_batch=max_batch), 4096, wanted, step_tokens)
    cells = {(cell.load, cell.mode.length) for cell in grid if cell.load.prefill}
    found = {load for load, _ in cells}
    assert cells == {(load, length) for load in found for length in LENGTHS}
    return sorted(found)


def test_prompts_are_a_dimension_of_the_grid() -> None:
    """Every length, every batch size that leaves a place for a prompt, two contexts, each size of prompt."""
    assert loads((32, 96)) == sorted(
        Load(n, c, prefill=p) for n in (1, 2, 4, 8, 11) for c in (64, 1024) for p in (32, 96)
    )
    assert loads(()) == []
    assert {load.prefill for load in loads()} == {128, 512}
    assert loads(max_batch=1) == []
    assert str(Load(2, 64, prefill=32)) == "2 requests at context 64 beside prompts of 32"


def test_prompts_that_a_step_has_no_room_for_are_not_planned() -> None:
    """Sizes by default as far as they fit beside the requests' own tokens; what was asked for is refused."""
    # 128 beside at most 8 requests of 5 tokens each, and no 512.
    assert {(load.requests, load.prefill) for load in loads(step_tokens=170)} == {
        (n, 128) for n in (1, 2, 4, 8)
    }
    with pytest.raises(OptionError, match=r"^--prefill: at most 165, .* not 166$"):
        loads((32, 166), step_tokens=170)
    assert loads((165,), step_tokens=170) == [Load(1, c, prefill=165) for c in (64, 1024)]
    with pytest.raises(OptionError, match=r"^--prefill: at most 4095, "):
        loads((4096,))
    with pytest.raises(OptionError, match=r"^--prefill: only 0, "):
        loads((32,), max_batch=1)


BESIDE = PlannedCell(Load(4, 100, prefill=60), Mode(3))
PREFILL = frozenset({"DISTURBANCE_PREFILL"})


def step(**changes: object) -> Step:
    """A step of four own requests at length 3, with an own prompt of 60 tokens, with changes."""
    fields: dict[str, object] = {
        "steps": 1,
        "seconds": 0.02,
        "disturbances": PREFILL,
        "requests": 5,
        "decoding_requests": 4,
        "labelled_requests": 5,
        "context_tokens": 440,
        "target_tokens": 76,
        "prefill_tokens": 60,
        "proposal_length": 3,
        "ragged": False,
        "drafter_skipped": False,
        "plan_version": 9,
        "labelled_unready_requests": 0,
    }
    return Step(**(fields | changes))  # type: ignore[arg-type]


ALONE = {
    "disturbances": frozenset(), "requests": 4, "labelled_requests": 4, "prefill_tokens": 0,
    "target_tokens": 16,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.MEASURED),
        (ALONE, Verdict.NO_PROMPT),
        ({"labelled_requests": 4}, Verdict.FOREIGN),
        ({"disturbances": PREFILL | {"DISTURBANCE_PREEMPTION"}}, Verdict.DISTURBED),
        ({"decoding_requests": 3, "requests": 4, "labelled_requests": 4}, Verdict.PARTIAL),
        ({"decoding_requests": 0, "requests": 1, "labelled_requests": 1}, Verdict.PARTIAL),
        ({"proposal_length": 2}, Verdict.OTHER_LENGTH),
        (ALONE | {"proposal_length": 2}, Verdict.OTHER_LENGTH),
    ],
)
def test_only_steps_with_own_prompts_beside_all_requests_are_measured(
    changes: dict[str, object], verdict: Verdict
) -> None:
    """All requests decode, the prompt is ours, and nothing else disturbs."""
    sorter = Sorter(BESIDE, proposal_settable=True)
    assert [sorter.add(step(**ALONE)), sorter.add(step())] == [Verdict.PASSING] * 2
    assert sorter.add(step(**changes)) is verdict
    groups = [(cell.requests, cell.target_tokens, cell.prefill_tokens) for cell in sorter.groups()]
    assert groups == ([(4, 76, 60)] if verdict is Verdict.MEASURED else [])


def test_prompts_that_find_no_place_leave_other_loads_alone() -> None:
    """Larger prompts and batches are given up with them, steps without prompts are not."""
    smaller = Load(2, 64, prefill=32)
    planned = [
        Load(4, 64),
        smaller,
        Load(4, 64, prefill=32),
        Load(2, 64, prefill=96),
        Load(1, 64, prefill=96),
    ]
    measured = Measured([PlannedCell(load, Mode(1)) for load in planned])
    measured.unreachable.add(smaller)
    assert [load for load in planned if measured.reachable(load)] == [planned[0], planned[4]]


# Beside prompts there are no graphs, and no idle compute: tokens cost six times as much.
TWO_COSTS = Costs(linear(0.020, 0.0005), ragged=linear(0.030, 0.003), prefill_token=2e-5)
BATCHES = (1, 2, 4, 8, 11)


def cells_of(costs: Costs, prefill: Sequence[int] = (0, 128, 512)) -> list[Cell]:
    """All that can be measured of an engine with these costs, exactly."""
    cells = []
    for prompts in prefill:
        for requests in BATCHES:
            for length in LENGTHS:
                for context in (64, 1024):
                    tokens = requests * (1 + length)
                    shape = Shape(requests, tokens, requests * context, length, prefill_tokens=prompts)
                    seconds = costs.seconds(shape)
                    counts = (requests, tokens + prompts, requests * context, prompts, length, False, False)
                    cells.append(Cell(*counts, 48, seconds, 0.0))
    return cells


def test_steps_with_prompts_are_judged_by_a_model_of_their_own() -> None:
    """Each was held out once, and is a region of the report, which says where none was measured.

    Negative control: cells that do not go with the others are found.
    """
    cells = cells_of(TWO_COSTS)
    report = evaluate(cells, ENGINE, 4096)
    assert {each.cell.coordinates for each in report.held_out} == {cell.coordinates for cell in cells}
    regions = {region.name: region for region in report.regions}
    assert regions["with prompts"].cells == 2 * len(cells) // 3
    assert regions["all"].cells == len(cells)
    assert regions["with prompts"].median < 0.02
    assert regions["with prompts"].p95 < 0.06
    assert report.coverage.prompt_tokens == 512
    slow = [replace(cell, seconds=2 * cell.seconds) if cell.prefill_tokens == 128 else cell for cell in cells]
    wrong = {region.name: region for region in evaluate(slow, ENGINE, 4096).regions}
    assert wrong["with prompts"].p95 > 0.15
    without = evaluate(cells_of(TWO_COSTS, (0,)), ENGINE, 4096)
    assert "with prompts" not in {region.name for region in without.regions}
    assert without.coverage.prompt_tokens == 0


def errors_beside_prompts(cells: Sequence[Cell], *, prior: bool = False, steps: int = 2) -> dict[int, float]:
    """Of a controller that started from these cells, so many steps after it knows that all have prompts.

    (predicted - stated) / stated of decoding at each length. `prior`: the cells are of a similar engine, half
    as fast.
    """
    controller = EngineController(ENGINE)
    match = Match(profile(tuple(cells)), ("engine_version",) if prior else ())
    start_from(cast(Engine, SimpleNamespace(controller=controller, key="one")), match)
    speed = 0.5 if prior else 1.0
    machine = Machine(TWO_COSTS, noise=0.0, outlier_rate=0.0, speed=lambda _: speed)
    world = World(ENGINE, [TrafficClass((0.7,))], 8, machine)
    world.compute_prompts(every_step=300)
    engine = DirectEngine(world, controller)
    engine.run(LEAST_STEPS + steps)
    assert "prompt_tokens" in dict(controller.latency().terms)
    surface = replace(TWO_COSTS, target=TWO_COSTS.ragged)
    return {
        candidate.proposal_length: candidate.step_seconds
        / surface.seconds(Shape(8, 8 + candidate.verified_tokens, 0, candidate.proposal_length))
        / speed
        - 1.0
        for candidate in controller.decide().candidates
    }


def test_a_controller_knows_steps_with_prompts_from_the_profile() -> None:
    """It predicts decoding beside prompts rightly from the first such step that it plans by.

    Negative control: from the profile's other cells alone it cannot.
    """
    known = errors_beside_prompts(cells_of(TWO_COSTS))
    assert set(known) == set(LENGTHS)
    assert max(map(abs, known.values())) < 0.05, known
    blind = errors_beside_prompts(cells_of(TWO_COSTS, (0,)))
    assert max(map(abs, blind.values())) > 0.2, blind


def test_a_similar_engines_steps_with_prompts_lend_their_shape() -> None:
    """An engine twice as fast is predicted rightly once it has made a few steps at one length, at others too.

    Negative control: without such cells the lengths that were not tried yet are not.
    """
    known = errors_beside_prompts(cells_of(TWO_COSTS), prior=True, steps=5)
    assert max(map(abs, known.values())) < 0.1, known
    blind = errors_beside_prompts(cells_of(TWO_COSTS, (0,)), prior=True, steps=5)
    assert max(map(abs, blind.values())) > 0.2, blind


def test_cells_that_do_not_say_how_many_decode_are_left_out() -> None:
    """Where fewer tokens than requests are left beside the prompts, some of the requests did not decode."""
    odd = [replace(cell, requests=3 * cell.requests, seconds=9.0) for cell in cells_of(TWO_COSTS, (128,))]
    odd = [cell for cell in odd if cell.target_tokens - cell.prefill_tokens < cell.requests]
    assert odd
    cells = cells_of(TWO_COSTS)
    assert errors_beside_prompts([*cells, *odd]) == errors_beside_prompts(cells)


def test_a_live_engine_is_profiled_beside_prompts(server: Server, tmp_path: Path) -> None:
    """The stored profile has the stated costs of steps with prompts and of others; the report has both.

    Negative control: with another cost of prompts it would not pass.
    """
    report = tmp_path / "report.json"
    with live(server, "prompted", capabilities=capabilities(1, max_batch=3)) as engine:
        command = arguments(server, engine, tmp_path, "--engine-id", "prompted", prefill="400")
        done = here(*command, "--max-requests", "2", "--json", str(report))
        assert done.returncode == 0, done.stderr
    assert "with prompts" in done.stdout
    content = json.loads(report.read_text())
    assert content["not_measured"] == []
    assert content["fit"]["coverage"]["prompt_tokens"] == 400
    cells = stored(server, engine, report)
    check_costs(cells, COSTS)
    found = {(cell.requests, cell.prefill_tokens, cell.proposal_length) for cell in cells}
    assert found == {(n, prompts, length) for n in (1, 2) for prompts in (0, 400) for length in (0, 1)}
    with pytest.raises(AssertionError, match="prefill_tokens=400"):
        check_costs([cell for cell in cells if cell.prefill_tokens], replace(COSTS, prefill_token=3e-5))


def test_an_engine_without_a_place_for_prompts_is_measured_without(server: Server, tmp_path: Path) -> None:
    """What cannot be is said and left out."""
    report = tmp_path / "report.json"
    with live(server, "full", capabilities=capabilities(1, max_batch=2), places=1) as engine:
        command = arguments(server, engine, tmp_path, "--engine-id", "full", prefill="100")
        done = here(*command, "--max-requests", "1", "--json", str(report))
        assert done.returncode == 0, done.stderr
    assert "The engine did not run 1 request at context 64 beside prompts of 100 at once" in done.stdout
    assert "Steps with prompts were not measured" in done.stdout
    assert {cell.prefill_tokens for cell in stored(server, engine, report)} == {0}


@pytest.mark.parametrize(("name", "field"), [("vllm", "vllm_xargs"), ("sglang", "custom_params")])
def test_requests_say_what_they_want_where_the_engine_looks(
    server: Server, tmp_path: Path, name: str, field: str
) -> None:
    """Requests whose label does not arrive would be anybody's, and nothing would be measured; nor would it be
    where they ask for more than the engine gives."""
    only = capabilities(1, max_batch=1)
    engine = live(server, name, capabilities=only, engine_name=name, intent_field=field, max_context=400)
    with engine:
        report = tmp_path / "report.json"
        longest = str(400 - RESERVED_TOKENS - room(1))
        command = arguments(server, engine, tmp_path, "--engine-id", name, "--contexts", longest)
        done = here(*command, "--json", str(report))
        assert done.returncode == 0, done.stderr
    assert json.loads(report.read_text())["not_measured"] == []
