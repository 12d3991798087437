"""The demonstration's table says what was measured."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from support.patience import Watch
from turbospec.engines.demo import table
from turbospec.engines.demo.results import Cell, Results, cell
from turbospec.engines.load import LoadResult
from turbospec.engines.processes import Children
from turbospec.engines.stage import counters
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.steering import NotControlledError, Steering

POLICIES = ("none", "idle", "static:4", "goodput")

_EXPOSITION = """\
# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="made"} 1000.0
vllm:generation_tokens_created{engine="0",model_name="made"} 1.7e+09
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="made"} 800.0
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="made"} 600.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="0"} 300.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1"} 7.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="made"} 10.0
"""

_CONTROLLER_EXPOSITION = """\
# TYPE turbospec_verification_length_tokens histogram
turbospec_verification_length_tokens_bucket{engine_id="demo",le="0.0",rank="0"} 100.0
turbospec_verification_length_tokens_count{engine_id="demo",rank="0"} 500.0
turbospec_verification_length_tokens_sum{engine_id="demo",rank="0"} 1500.0
turbospec_verification_length_tokens_count{engine_id="demo-2",rank="0"} 7.0
turbospec_accepted_tokens_total{engine_id="demo",position="1",rank="0"} 600.0
turbospec_accepted_tokens_total{engine_id="demo",position="2",rank="0"} 300.0
turbospec_accepted_tokens_total{engine_id="demo-2",position="1",rank="0"} 7.0
"""


def _load(tokens: int) -> LoadResult:
    return LoadResult(2.0, tokens, 3, 0.1, 0.01)


def _results() -> Results:
    speeds = {1: (100, 90, 250, 260), 8: (400, 360, 300, 420)}
    nothing = counters.Counters(100, 0, 0)
    cells = [
        cell(concurrency, policy, _load(2 * speed), nothing)
        for concurrency, row in speeds.items()
        for policy, speed in zip(POLICIES, row, strict=True)
        if policy != "goodput"
    ]
    for concurrency, drafted in ((1, 90), (8, 30)):
        counted = counters.Counters(30, drafted, 40)
        cells.append(cell(concurrency, "goodput", _load(2 * speeds[concurrency][3]), counted))
    return Results(cells)


def test_counters_are_vllms_totals() -> None:
    """Its totals are read, and nothing that is only named like them.

    Each decode step of a request gives one token more than it accepted; first tokens need none.
    """
    counted = counters.parse(_EXPOSITION)
    assert counted == counters.Counters(decoded=1000 - 600 - 10, drafted=800, accepted=600)
    assert counted.since(counters.Counters(90, 300, 200)) == counters.Counters(300, 500, 400)


def test_an_engine_without_speculation_counts_no_drafts() -> None:
    """Counters that an engine does not have are 0, not an error."""
    assert counters.parse("vllm:generation_tokens_total 5\n") == counters.Counters(5, 0, 0)


def test_counters_of_one_engine_are_the_controllers() -> None:
    """All draft positions of that engine, none of another; of one that is not there nothing."""
    counted = counters.parse_controller(_CONTROLLER_EXPOSITION, "demo")
    assert counted == counters.Counters(decoded=500, drafted=1500, accepted=900)
    assert counters.parse_controller(_CONTROLLER_EXPOSITION, "none") == counters.Counters(0, 0, 0)


def test_length_is_per_request_and_decode_step() -> None:
    """Draft tokens over decode steps, and of those the share that was accepted."""
    measured = cell(4, "static:4", _load(500), counters.parse(_EXPOSITION))
    assert measured.mean_length == 800 / 390
    assert measured.acceptance_ratio == 0.75
    assert measured.tokens_per_second == 250.0


def test_without_drafts_there_is_no_length() -> None:
    """Nothing verified is no acceptance, rather than one of 0."""
    measured = cell(4, "idle", _load(500), counters.Counters(990, 0, 0))
    assert measured.mean_length is None
    assert measured.acceptance_ratio is None


def test_table_shows_every_cell() -> None:
    """A person sees speed, relation and length of each policy at each concurrency."""
    out = io.StringIO()
    Console(file=out, width=80).print(table.render(_results(), POLICIES))
    rows = [line.split() for line in out.getvalue().splitlines() if line.strip()[:1].isdigit()]
    assert rows == [
        ["1", "100", "90", "(0.90x)", "250", "(2.50x)", "260", "(2.60x)", "3.0", "44%"],
        ["8", "400", "360", "(0.90x)", "300", "(0.75x)", "420", "(1.05x)", "1.0", "133%"],
    ]


def test_sentence_says_what_the_numbers_say() -> None:
    """The sentence names the worst case of the controlled policy, whatever it is."""
    text = table.sentence(_results(), POLICIES)
    assert "goodput gave 1.05x to 2.60x the tokens of an engine without speculation" in text
    assert "idle 0.90x; static:4 0.75x to 2.50x" in text
    assert "at worst 1.04x, at 1" in text
    assert "from 3.0 at 1 to 1.0 at 8" in text


def test_json_has_the_relation_to_none() -> None:
    """What the table shows is in the file too."""
    rows = _results().as_json()
    assert len(rows) == 8
    assert {row["relative_to_none"] for row in rows if row["policy"] == "none"} == {1.0}
    with pytest.raises(KeyError):
        _results().at(2, "none")
    assert isinstance(_results().at(8, "idle"), Cell)


@pytest.mark.usefixtures("_subprocesses_see_the_tree")
def test_an_engine_that_never_connects_is_an_error(tmp_path: Path) -> None:
    """A demonstration without control ends with the reason, not with a table."""
    controller = Controller.choose(tmp_path)
    with Children(tmp_path) as children:
        controller.start(children)
        with (
            Watch() as watch,
            Steering(controller.introspection, controller.operations, "demo") as steering,
        ):
            with pytest.raises(NotControlledError, match=r"'demo' has not connected .* within 1 s"):
                steering.wait_connected(1.0)
            with pytest.raises(NotControlledError, match="does not know engine 'demo'"):
                steering.check_controlled("goodput")
        assert watch.seconds < 10
