"""`turbospec bench moving`: when lengths count as settled, what is summed up, and what is shown."""

from __future__ import annotations

import asyncio
import io
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support.patience import PATIENCE_SECONDS
from turbospec.cli.main import main
from turbospec.engines.bench.moving import document, table
from turbospec.engines.bench.moving.crowd import Crowd
from turbospec.engines.bench.moving.measured import Measured, MixMeasured
from turbospec.engines.bench.moving.mix import MIXES, Window
from turbospec.engines.bench.moving.picture import draw
from turbospec.engines.bench.moving.plan import (
    GOODPUT,
    LOAD,
    MIXED,
    NONE,
    POLICIES,
    TEMPERATURES,
    Options,
    RequestClass,
    orders,
    planned_seconds,
)
from turbospec.engines.bench.moving.tally import Given, Tally
from turbospec.engines.bench.moving.timeline import DEFINITION, Phase, Sample, Timeline, settle_seconds
from turbospec.engines.bench.moving.watching import RequestState, mean_length
from turbospec.engines.load import LoadError, Workload, open_session
from turbospec.engines.processes import Children, free_port, responds

_SERVER = Path(__file__).parents[1] / "support" / "completions_server.py"
_PHASE = Phase(10.0, 40.0, 32)


def _lengths(values: Sequence[float | None], began: float = 10.0) -> list[tuple[float, float | None]]:
    """Four samples per second from `began` on."""
    return [(began + i / 4, value) for i, value in enumerate(values)]


def test_its_defaults_are_short() -> None:
    """All three parts and both pairs, with four repeats, within a quarter of an hour."""
    options = Options()
    assert options.parts == ("moving", "mixed", "temperatures")
    assert options.pairs == ("high", "low")
    assert options.repeats >= 4
    assert LOAD == (1, 32, 1)
    assert planned_seconds(options) < 15 * 60
    assert planned_seconds(replace(options, parts=("mixed",))) < 5 * 60


def test_every_policy_runs_once_in_every_repeat() -> None:
    """In orders that differ between repeats and are the same in every run."""
    made = list(orders(Options(), MIXED))
    assert made == list(orders(Options(), MIXED))
    assert made != list(orders(Options(), TEMPERATURES))
    assert [repeat for repeat, _ in made] == [1, 2, 3, 4]
    assert all(sorted(policies) == sorted(POLICIES) for _, policies in made)


def test_settled_is_when_lengths_enter_the_band_and_stay() -> None:
    """A ramp from 4 to 1 within 5 s is settled when it first is within half a token of 1."""
    ramp = [4 - 3 * i / 20 for i in range(20)] + [1.0] * 101
    assert settle_seconds(_lengths(ramp), _PHASE) == pytest.approx(17 / 4)  # 4 - 3 * 17/20 = 1.45


def test_what_was_right_already_has_settled_at_once() -> None:
    """Without a need to change there is nothing to wait for."""
    assert settle_seconds(_lengths([3.0] * 121), _PHASE) == 0.0


def test_a_fifth_of_the_samples_may_look_around() -> None:
    """Single looks at other lengths, after settling, do not unsettle."""
    looks = [4.0] * 8 + [0.0 if i % 6 == 5 else 4.0 for i in range(113)]
    assert settle_seconds(_lengths(looks), _PHASE) == 0.0
    restless = [4.0] * 8 + [0.0 if i % 3 == 2 else 4.0 for i in range(113)]
    assert settle_seconds(_lengths(restless), _PHASE) is None


def test_passing_through_the_band_is_not_settling() -> None:
    """One sample that happens to be right, with the next two seconds wrong, is not it."""
    lengths = [2.0] + [6.0] * 12 + [2.0] * 108
    assert settle_seconds(_lengths(lengths), _PHASE) == pytest.approx(13 / 4)


def test_what_swings_or_drifts_to_the_end_never_settles() -> None:
    """Neither a length that alternates, nor one that arrives at the phase's very end."""
    assert settle_seconds(_lengths([0.0, 6.0] * 60), _PHASE) is None
    assert settle_seconds(_lengths([i / 20 for i in range(121)]), _PHASE) is None


def test_the_band_is_a_fifth_of_long_lengths() -> None:
    """Half a token of a short one."""
    assert settle_seconds(_lengths([4.9] * 20 + [6.0] * 101), _PHASE) == 0.0
    assert settle_seconds(_lengths([4.7] * 20 + [6.0] * 101), _PHASE) == 5.0
    assert settle_seconds(_lengths([0.6] * 20 + [1.0] * 101), _PHASE) == 0.0


def test_moments_without_requests_do_not_count() -> None:
    """Between two requests no plan names any; other phases' samples do not count either."""
    lengths = [*_lengths([0.0] * 40, began=0.0), *_lengths([3.0, None] * 60), (41.0, 0.0)]
    assert settle_seconds(lengths, _PHASE) == 0.0
    assert settle_seconds(_lengths([None] * 121), _PHASE) is None


def test_the_mean_length_is_of_requests() -> None:
    """One request with 0, three with 2."""
    assert mean_length([1, 0, 3]) == 1.5
    assert mean_length([]) is None
    assert mean_length([0, 0]) is None


def _timeline(pair: str = "high") -> Timeline:
    """4 tokens at 1 request, 2 at 32 after 2 s of 4; then off for a second."""
    phases = [Phase(0.0, 20.0, 1), Phase(20.0, 40.0, 32), Phase(40.0, 60.0, 1)]
    samples = []
    for i in range(1, 240):
        seconds = i / 4
        crowded = 20.0 <= seconds < 40.0
        length = 2.0 if 22.0 <= seconds < 40.0 else 4.0
        off = 40.0 <= seconds < 41.0
        samples.append(
            Sample(
                seconds=seconds,
                requests_in_flight=32 if crowded else 1,
                tokens_per_second=900.0 if crowded else 60.0,
                mean_verification_length=None if i == 7 else 0.0 if off else length,
                proposal_length=0 if off else round(length),
                drafter_skipped=off,
                unready_requests=int(off),
            )
        )
    return Timeline(pair, samples, phases)


def test_each_step_of_load_has_its_settling_time() -> None:
    """Steps are between phases; a phase is described by its last third."""
    timeline = _timeline()
    steps = timeline.steps()
    assert [(step.at_seconds, step.before, step.after) for step in steps] == [(20.0, 1, 32), (40.0, 32, 1)]
    assert [step.settle_seconds for step in steps] == [2.0, 1.0]
    assert [timeline.settled(phase) for phase in timeline.phases] == [(4.0, 60.0), (2.0, 900.0), (4.0, 60.0)]


def test_looks_add_up_by_class() -> None:
    """Steps are tokens less accepted drafts; only what lies between two looks counts."""
    tally = Tally()
    tally.note("a", "copying", 0, RequestState(0, 0, 4))  # nothing received yet: not a look
    tally.note("a", "copying", 1, RequestState(0, 0, 4))
    tally.note("b", "others", 5, RequestState(8, 1, 1))
    tally.note("a", "copying", 31, RequestState(40, 20, 6))  # 30 tokens, 20 of them drafts: 10 steps
    tally.note("b", "others", 15, RequestState(12, 2, None))  # 10 tokens, 1 of them a draft: 9 steps
    tally.note("c", "others", 9, RequestState(5, 5, 2))  # seen once
    assert tally.given == {"copying": Given(10, 40, 20, 10, 2), "others": Given(9, 4, 1, 3, 2)}
    copying, others = tally.given["copying"], tally.given["others"]
    assert (copying.mean_planned_length, copying.mean_verified, copying.acceptance_ratio) == (5.0, 4.0, 0.5)
    both = copying + others
    assert both.mean_verified == 44 / 19
    assert (Given().mean_planned_length, Given().mean_verified, Given().acceptance_ratio) == (
        None,
        None,
        None,
    )


def _mix(part: str) -> MixMeasured:
    mix = MixMeasured(part)
    draw_speed = random.Random(part)
    for _, policies in orders(Options(), part):
        for policy in policies:
            given = {} if policy == NONE else {c.name: Given(100, 250, 125, 60, 20) for c in mix.classes}
            speeds = {c.name: 100.0 * draw_speed.uniform(0.9, 1.1) for c in mix.classes}
            mix.windows[policy].append(Window(speeds, given))
    return mix


def _measured() -> Measured:
    return Measured(Options(), [_timeline("high"), _timeline("low")], [_mix(MIXED), _mix(TEMPERATURES)])


def test_the_document_is_what_was_measured() -> None:
    """Timelines and steps with the promised keys; every policy and class of both mixes."""
    measured = _measured()
    written = json.loads(json.dumps(document.as_json(measured, 60.0)))
    assert [moving["pair"] for moving in written["moving"]] == ["high", "low"]
    for moving in written["moving"]:
        assert len(moving["timeline"]) == 239
        assert moving["timeline"][0] == {
            "seconds": 0.25,
            "requests_in_flight": 1,
            "tokens_per_second": 60.0,
            "mean_verification_length": 4.0,
            "proposal_length": 4,
            "drafter_skipped": False,
            "unready_requests": 0,
        }
        assert moving["steps"] == [
            {"at_seconds": 20.0, "settle_seconds": 2.0, "from": 1, "to": 32},
            {"at_seconds": 40.0, "settle_seconds": 1.0, "from": 32, "to": 1},
        ]
    assert written["settle_definition"] == DEFINITION
    for mix in measured.mixes:
        part = written[mix.part]
        assert [policy["policy"] for policy in part["policies"]] == list(POLICIES)
        for policy in part["policies"]:
            assert policy["tokens_per_second"] == mix.speeds()[policy["policy"]]
            assert len(policy["tokens_per_second"]) == 4
            assert [c["class"] for c in policy["classes"]] == [c.name for c in mix.classes]
            for of_class in policy["classes"]:
                none = policy["policy"] == NONE
                assert of_class["acceptance_ratio"] == (None if none else 0.5)
                assert of_class["mean_planned_verification_length"] == (None if none else 3.0)
                assert of_class["mean_verified_tokens_per_request_and_step"] == (None if none else 2.5)
        assert set(part["goodput_over"]) == set(POLICIES) - {GOODPUT}


def test_a_part_that_was_not_run_is_not_in_the_document() -> None:
    """A run of one part is complete too."""
    written = document.as_json(Measured(Options(parts=(MIXED,)), mixes=[_mix(MIXED)]), 60.0)
    assert MIXED in written
    assert not {"moving", TEMPERATURES} & set(written)


def test_the_tables_fit_a_terminal_and_say_it_all() -> None:
    """Every pair's phases, every policy and class, within 80 columns; never settled is said."""
    measured = _measured()
    restless = [
        replace(sample, mean_verification_length=6.0 * (i % 2))
        for i, sample in enumerate(_timeline().samples)
    ]
    measured.timelines.append(replace(_timeline("restless"), samples=restless))
    out = io.StringIO()
    console = Console(file=out, width=80)
    for part in table.render(measured):
        console.print(part)
    text = out.getvalue()
    assert "…" not in text
    lines = [line.split() for line in text.splitlines()]
    assert ["high", "32", "2.00", "900", "2.0", "s"] in lines
    assert sum(line[-2:] == ["not", "settled"] for line in lines) == 2
    for name in (*POLICIES, *(c.name for mix in measured.mixes for c in mix.classes)):
        assert any(" ".join(line).startswith(name) for line in lines), name


@pytest.mark.parametrize(("name", "begin"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_the_picture_is_of_the_format_that_its_name_says(tmp_path: Path, name: str, begin: bytes) -> None:
    """And small enough for a document."""
    draw([_timeline("high"), _timeline("low")], tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert content.startswith(begin)
    assert len(content) < 150_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "moving,fast"], "expected some of moving, mixed, temperatures"),
        (["--parts", "mixed,mixed"], "each once"),
        (["--pairs", "medium"], "expected some of high, low"),
        (["--phase-seconds", "5"], "must be at least 10"),
        (["--repeats", "3"], "must be from 4 to 100"),
        (["--seconds", "0"], "must be from 1 to 600"),
        (["--picture", "a.gif"], "must end in .png or .svg"),
        (["--parts", "mixed", "--picture", "a.png"], "not among --parts"),
    ],
)
def test_bad_arguments_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad value is refused before anything starts."""
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "moving", *arguments])
    assert message in capsys.readouterr().err


def test_mixes_are_of_requests_that_differ() -> None:
    """Classes have different names and temperatures; the first copies, or is greedy."""
    for mix in MIXES.values():
        assert len({c.name for c in mix.classes}) == len(mix.classes)
        assert mix.classes[0].parameters["temperature"] == 0
        assert len({c.parameters["temperature"] for c in mix.classes}) == len(mix.classes)


def test_draft_tokens_get_their_requests_temperature() -> None:
    """As vLLM's kernel would have it; 0, which stands for greedy, becomes 1."""
    import torch
    from turbospec.engines.stage.cpu_worker import expand

    values, ends = torch.tensor([0.0, 0.05, 0.7]), torch.tensor([2, 2, 5], dtype=torch.int32)
    assert expand(values, ends, 5, 0, 1).tolist() == pytest.approx([1.0, 1.0, 0.7, 0.7, 0.7])


@pytest.fixture
def url(tmp_path: Path, _subprocesses_see_the_tree: None) -> Iterator[str]:
    """A server that streams 3 tokens to every request each 50 ms, and errors to the tenth."""
    with Children(tmp_path) as children:
        port = free_port()
        child = children.start("server", [sys.executable, str(_SERVER), str(port), "3", "0.05", "10"], {})
        url = f"http://127.0.0.1:{port}"
        child.wait_until(lambda: responds(f"{url}/health"), PATIENCE_SECONDS)
        yield url


_CLASSES = [RequestClass("a", {"temperature": 0}), RequestClass("b", {"temperature": 1})]


async def _crowd(url: str, sizes: Sequence[int], tokens: int) -> tuple[list[int], dict[str, int]]:
    """How many requests were in flight at the end of each phase, and tokens by class.

    A phase ends when each class that has clients has received so many more.
    """
    seen = []
    workload = Workload("made", vocabulary=512, output_tokens=(300, 300))
    async with open_session() as session, Crowd(session, url, workload, _CLASSES) as crowd:
        for size in sizes:
            crowd.resize(size)
            enough = {each.name: crowd.tokens[each.name] + tokens for each in _CLASSES[:size]}
            while any(crowd.tokens[name] < count for name, count in enough.items()):
                await crowd.until(time.perf_counter() + 0.05)
            seen.append(len(crowd.in_flight))
    assert not crowd.in_flight
    return seen, dict(crowd.tokens)


def test_the_crowd_grows_and_shrinks(url: str) -> None:
    """Each client has one request in flight; classes have as many clients each."""
    seen, tokens = asyncio.run(_crowd(url, [1, 4, 1], 12))
    assert seen == [1, 4, 1]
    assert set(tokens) == {"a", "b"}
    assert tokens["a"] > tokens["b"] > 0


def test_a_failed_request_ends_the_measurement(url: str) -> None:
    """A measurement in which a request failed is none."""
    with pytest.raises(LoadError, match="engine died"):
        asyncio.run(_crowd(url, [12], 10_000))
