"""`turbospec bench cost-models`: forms are judged by what they were not fitted to."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support.profiles import profile
from support.scripted.costs import Costs, Shape, linear, piecewise
from turbospec.cli.main import main
from turbospec.engines.bench.costmodels import document, table
from turbospec.engines.bench.costmodels.forms import FORMS
from turbospec.engines.bench.costmodels.holdout import AXES, Judged, judge, noise, simplest
from turbospec.engines.bench.costmodels.sources import Source, of_profile, read
from turbospec.engines.profiling.errors import OptionError
from turbospec.sidecar.core.types import Capabilities
from turbospec.sidecar.profiles.document import dumps
from turbospec.sidecar.profiles.profile import Cell
from turbospec.sidecar.profiles.store import SUFFIX

_PUBLISHED = Path(__file__).parents[2] / "benchmarks" / "published-eagle-llama-3.1-8b.csv"
_REQUESTS = (1, 2, 4, 8, 16, 32)
_CONTEXTS = (64, 256, 900)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_LONGEST = 6


def _source(costs: Costs, sizes: tuple[int, ...] = (), spread: float = 0.0) -> Source:
    """A sweep of an engine that was told its costs; its cells are off by `spread`, one by one."""
    draw = random.Random(1)
    engine = Capabilities(_LONGEST, _LONGEST, tuple(range(_LONGEST + 1)), deep_off=True, graph_sizes=sizes)
    modes = [(length, False) for length in range(_LONGEST + 1)] + [(0, True)]
    cells = []
    for requests in _REQUESTS:
        for context in _CONTEXTS:
            for length, skipped in modes:
                tokens, total = requests * (1 + length), requests * context
                shape = Shape(requests, tokens, total, length, drafter_skipped=skipped)
                seconds = costs.seconds(shape) * draw.gauss(1.0, spread)
                noisy = (48, seconds, 0.02 * seconds)
                cells.append(Cell(requests, tokens, total, 0, length, False, skipped, *noisy))
    return Source("told", engine, tuple(cells))


def _by_name(judged: Sequence[Judged]) -> dict[str, Judged]:
    return {each.form: each for each in judged}


_STEEP = piecewise({1: 0.020, 8: 0.021, 32: 0.026, 64: 0.050, 256: 0.120})
"""Flat while memory bounds it, then steep, then less so: no line."""


def test_where_costs_are_linear_the_linear_form_is_enough() -> None:
    """It is the simplest of those that hold, and is not beaten by more than noise."""
    judged = judge(_source(Costs(linear(0.02, 0.001), draft_request=0.0, context_token=1e-7), spread=0.02))
    best = simplest(judged)
    assert best is not None
    assert best.form == "linear"
    assert best.size == 6  # a step, tokens, context, requests, draft passes, whether the drafter runs
    assert all(each.holds for each in judged), [(each.form, each.errors()) for each in judged]


def test_where_costs_bend_the_linear_form_fails() -> None:
    """The negative control: forms with a line for tokens miss the goals; those with a curve keep to them."""
    judged = _by_name(judge(_source(Costs(_STEEP, context_token=1e-7), spread=0.01)))
    assert not judged["linear"].holds
    assert not judged["linear, target + draft"].holds
    assert judged["curve"].holds
    best = simplest(list(judged.values()))
    assert best is not None
    assert best.form.startswith("curve")


def test_staircases_are_described_where_sizes_are_known() -> None:
    """Told captured sizes, every form follows the staircase; without them none does half as well."""
    costs = Costs(linear(0.01, 0.0008, sizes=_SIZES), draft_request=0.0, context_token=1e-7)
    told, untold = judge(_source(costs, _SIZES)), judge(_source(costs))
    for with_sizes, without in zip(told, untold, strict=True):
        known, blind = with_sizes.errors("cells"), without.errors("cells")
        assert known is not None
        assert blind is not None
        assert known.holds
        assert known.p95 < 0.5 * blind.p95, with_sizes.form


def test_a_region_is_held_out_as_a_whole() -> None:
    """Cells of one batch size, length or context are predicted from the others only; the drafter's absence is
    never held out, since nothing else tells what it saves; the outermost regions are extrapolated."""
    source = _source(Costs())
    judged = judge(source)[0]
    held = {axis: [each for each in judged.held_out if each.axis == axis] for axis in AXES}
    assert sorted(each.cell.coordinates for each in held["cells"]) == sorted(
        cell.coordinates for cell in source.cells
    )
    assert len(held["requests"]) == len(held["context"]) == len(source.cells)
    assert not any(each.cell.drafter_skipped for each in held["length"])
    assert {each.cell.requests for each in held["requests"] if each.outermost} == {1, 32}
    assert {each.cell.proposal_length for each in held["length"] if each.outermost} == {0, _LONGEST}
    assert not any(each.outermost for each in held["cells"])


def test_a_held_out_cell_does_not_know_itself() -> None:
    """One batch size takes twice as long as all others say: whoever has not seen it cannot know."""
    source = _source(Costs(linear(0.02, 0.001)))
    odd = replace(
        source,
        cells=tuple(replace(c, seconds=2 * c.seconds) if c.requests == 8 else c for c in source.cells),
    )
    for each in judge(odd):
        errors = [abs(h.error) for h in each.held_out if h.axis == "requests" and h.cell.requests == 8]
        assert min(errors) > 0.3, each.form


def test_a_prediction_is_never_negative() -> None:
    """Whatever is held out, of all forms."""
    for each in judge(_source(Costs(_STEEP), spread=0.2)):
        assert all(held.predicted_seconds > 0 for held in each.held_out), each.form


def test_published_times_are_read_and_judged() -> None:
    """Every published cell, at its length; no form needs what was not published."""
    (source,) = read(_PUBLISHED)
    assert (len(source.cells), source.engine.max_length, source.engine.deep_off) == (23, 7, True)
    assert {cell.requests for cell in source.cells} == {1, 16, 32, 64}
    assert [c.seconds for c in source.cells if (c.requests, c.proposal_length) == (32, 7)] == [0.01486]
    judged = judge(source)
    assert [each.form for each in judged] == [form.name for form in FORMS]
    assert simplest(judged) is not None
    assert noise(source) is None  # what was published does not say how well it is known


def test_profiles_are_read_from_files_and_directories(tmp_path: Path) -> None:
    """The cells of an exported profile, and of all in a directory."""
    made = profile()
    named = tmp_path / f"any{SUFFIX}"
    named.write_bytes(dumps(made))
    (source,) = read(named)
    assert read(tmp_path) == [source] == of_profile(made)
    assert (len(source.cells), source.engine.graph_sizes) == (12, made.key.graph_sizes)
    assert noise(source) is not None


def test_steps_with_prompts_are_judged_apart() -> None:
    """They have a model of their own: one that knows what they cost holds, and says so of them alone."""
    costs = Costs(linear(0.02, 0.001), linear(0.03, 0.004), draft_request=0.0, prefill_token=2e-4)
    decode = _source(costs)
    mixed = []
    for tokens in (128, 512):
        for cell in decode.cells:
            count = (cell.requests, cell.target_tokens, cell.context_tokens, cell.proposal_length)
            skipped = cell.drafter_skipped
            seconds = costs.seconds(Shape(*count, prefill_tokens=tokens, drafter_skipped=skipped))
            target = cell.target_tokens + tokens
            mixed.append(replace(cell, target_tokens=target, prefill_tokens=tokens, seconds=seconds))
    own_key = profile(graph_sizes=(), max_length=_LONGEST, ragged_breaks_graphs=False)
    alone, beside = of_profile(replace(own_key, cells=(*decode.cells, *mixed)))
    assert (alone.cells, beside.cells) == (decode.cells, tuple(mixed))
    assert beside.name == f"{alone.name}, with prompts"
    judged = _by_name(judge(beside))
    assert judged["linear"].holds
    assert judged["controller"].holds
    # One number more than decode steps: a prompt's token.
    assert judged["linear"].size == _by_name(judge(alone))["linear"].size + 1
    # Negative control: who does not know of the prompts misses the goals.
    blind = [replace(c, target_tokens=c.target_tokens - c.prefill_tokens, prefill_tokens=0) for c in mixed]
    assert not _by_name(judge(replace(beside, cells=tuple(blind))))["linear"].holds


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.json", None, "No such file"),
        ("other.json", "{}", "is no profile that can be used"),
        ("other.csv", "a,b\n1,2\n", "the columns must be requests,proposal_length"),
        (
            "bad.csv",
            "requests,proposal_length,drafter_skipped,context_tokens,milliseconds\n1,0,0,0,fast\n",
            "could not convert",
        ),
        ("empty", "", "no profile"),
    ],
)
def test_what_cannot_be_read_is_named(
    name: str, content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The path and why; status 2."""
    path = tmp_path / name
    if name == "empty":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    with pytest.raises(OptionError, match=message):
        read(path)
    assert main(["bench", "cost-models", "--profile", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_the_document_and_the_tables_say_it_all(tmp_path: Path) -> None:
    """Every form with its errors along every axis, every held-out cell, and what follows."""
    source = _source(Costs(_STEEP, context_token=1e-7), spread=0.01)
    judged = judge(source)
    written = json.loads(json.dumps(document.as_json({source.name: (source, judged)})))
    (told,) = written["sources"]
    assert told["source"] == "told"
    assert told["simplest_that_holds"].startswith("curve")
    assert [form["form"] for form in told["forms"]] == [form.name for form in FORMS]
    for form in told["forms"]:
        assert {(e["axis"], e["outermost"]) for e in form["errors"]} == {
            (axis, outermost) for axis in AXES for outermost in (False, True)
        }
        assert len(form["held_out"]) > 3 * len(source.cells)
    out = io.StringIO()
    console = Console(file=out, width=120)
    for part in table.render(source, judged):
        console.print(part)
    text = out.getvalue()
    assert "…" not in text
    assert all(form.name in text for form in FORMS)
    assert "The simplest form that keeps to the goals: curve" in text
    result = tmp_path / "result.json"
    assert main(["bench", "cost-models", "--profile", str(_PUBLISHED), "--json", str(result)]) == 0
    assert json.loads(result.read_text())["goal"] == {"median": 0.05, "p95": 0.15}
