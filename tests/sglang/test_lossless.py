"""Whatever lengths the controller chooses, an engine's answers are those of an engine without speculation.

In float32, greedy. A scripted controller sends another length with each plan and writes down what it is told,
so that what the adapter reports is held against what SGLang itself did.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import median
from typing import Any

import pytest
from support import sglang_adapter
from support.controller import wandering_length
from support.controllers import ControllerProcess
from support.patience import Watch
from support.sglang_evidence import Evidence
from support.sglang_reported import reported
from support.sglang_setup import STEPS, Answer, Ask, EngineOptions
from support.sglang_worker import Engine
from turbospec.adapters.sglang.methods import METHODS, Status
from turbospec.engines.models import MadeModels

pytestmark = pytest.mark.sglang

RUNS = [(m, overlap) for m, each in METHODS.items() if each.status is Status.RUN for overlap in (False, True)]
NAMES = [f"{method}-{'overlap' if overlap else 'synchronous'}" for method, overlap in RUNS]


@dataclass
class Run:
    """A controlled engine that has answered `asks`, with what it did and what it reported.

    `ran_seconds` are those of `seconds` in which the machine did not stand still.
    """

    engine: Engine
    controller: ControllerProcess
    answers: list[Answer]
    evidence: Evidence
    reports: list[dict[str, Any]]
    seconds: float
    ran_seconds: float


def steps(report: dict[str, Any]) -> int:
    return int(report["steps"])


def decodes(report: dict[str, Any]) -> bool:
    return bool(report.get("slots"))


def numbers(report: dict[str, Any], name: str) -> list[int]:
    return [int(n) for n in report.get(name, [])]


@pytest.fixture(scope="module", params=RUNS, ids=NAMES)
def run(
    request: pytest.FixtureRequest,
    models: MadeModels,
    drafts: dict[str, str | None],
    asks: list[Ask],
    reference: list[list[int]],  # noqa: ARG001 - made first: one engine at a time
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Run]:
    method, overlap = request.param
    folder = tmp_path_factory.mktemp("controller")
    controller = ControllerProcess(f"unix:{folder / 'c.sock'}", "wanders", folder / "journal")
    environ = {
        "TURBOSPEC_CONTROL_ADDRESS": f"unix:{folder / 'c.sock'}",
        "TURBOSPEC_ENGINE_ID": NAMES[RUNS.index(request.param)],
    }
    engine = Engine(
        EngineOptions(
            model=str(models.target), method=method, draft=drafts[method], overlap=overlap, environ=environ
        )
    )

    def answer() -> tuple[list[Answer], Evidence, float, float]:
        began = time.monotonic()
        with Watch() as watch:
            answers, evidence = engine.answer(asks)
        return answers, evidence, time.monotonic() - began, watch.seconds

    (answers, evidence, seconds, ran_seconds), reports = reported(engine, controller, answer)
    yield Run(engine, controller, answers, evidence, reports, seconds, ran_seconds)
    engine.stop()
    controller.kill()


def test_lengths_that_change_all_the_time_change_no_answer(run: Run, reference: list[list[int]]) -> None:
    """Every length occurs, most steps have another one than the step before, drafts are wrong and right."""
    assert [answer.tokens for answer in run.answers] == reference
    evidence = run.evidence
    assert evidence.decode_steps >= 100
    assert set(evidence.lengths) == set(range(STEPS + 1))
    assert len(list(groupby(evidence.lengths))) >= evidence.decode_steps / 4
    assert evidence.total_rejected >= 100
    assert evidence.total_accepted >= 100
    assert evidence.steps_in_flight == (2 if run.engine.options.overlap else 1)
    assert max(evidence.batch_sizes) == 8
    assert run.engine.call(sglang_adapter.controlled)


def test_a_shorter_length_drafts_less(run: Run) -> None:
    """The drafter's model runs once to follow the target, and once more for each draft but the first."""
    pairs = set(zip(run.evidence.lengths, run.evidence.draft_passes, strict=True))
    assert pairs == {(length, 1 + max(length - 1, 0)) for length in range(STEPS + 1)}


def test_reports_say_what_happened(run: Run, asks: list[Ask]) -> None:
    """Step for step the lengths that SGLang ran, what was accepted, and every token that came."""
    decoded = [report for report in run.reports if decodes(report)]
    ran = zip(run.evidence.lengths, run.evidence.batch_sizes, strict=True)
    lengths = [length for length, requests in ran for _ in range(requests)]
    assert [n for report in decoded for n in numbers(report, "verified")] == lengths
    assert [n for report in decoded for n in numbers(report, "proposed")] == lengths
    single = [report for report in decoded if steps(report) == 1]
    assert len(single) >= run.evidence.decode_steps / 2
    for report in single:
        assert set(numbers(report, "verified")) == {int(report.get("proposal_length", 0))}
    accepted = sum(sum(numbers(report, "accepted")) for report in decoded)
    assert accepted == run.evidence.total_accepted
    # A token beside those accepted; what is past a request's end nobody receives.
    emitted = sum(int(report.get("emitted_tokens", 0)) for report in run.reports)
    assert emitted == sum(ask.max_tokens for ask in asks)
    inner = [r for r in single if not r.get("closed_slots")]
    assert len(inner) >= 50
    for report in inner:
        assert int(report["emitted_tokens"]) == sum(numbers(report, "accepted")) + len(report["slots"])
    prompts = sum(int(report.get("prefill_tokens", 0)) for report in run.reports)
    assert prompts == sum(len(ask.prompt) for ask in asks)
    assert all(int(report["duration_ns"]) > 0 for report in run.reports)


def test_contexts_grow_by_what_was_emitted(run: Run) -> None:
    """From the prompt's length on, by what was accepted and one more."""
    next_context: dict[int, int] = {}
    checked = 0
    for report in run.reports:
        for opened in report.get("opened", []):
            next_context[int(opened.get("slot", 0))] = int(opened["prompt_tokens"]) + 1
        rows = zip(
            numbers(report, "slots"),
            numbers(report, "context_tokens"),
            numbers(report, "accepted"),
            strict=True,
        )
        for slot, context, accepted in rows:
            assert context == next_context[slot]
            next_context[slot] += accepted + 1
            checked += 1
    assert checked >= 500


def test_a_step_runs_the_length_of_its_plan(run: Run) -> None:
    """The one that it says it ran under; and that was made from a step early enough to have been known."""
    planned = [r for r in run.reports if decodes(r) and int(r.get("plan_version", 0))]
    assert sum(steps(report) for report in planned) >= 0.9 * run.evidence.decode_steps
    for report in planned:
        wanted = wandering_length(int(report["plan_version"]), STEPS)
        assert int(report.get("proposal_length", 0)) == wanted
    ages = [int(report["plan_age_steps"]) for report in planned]
    delay = 2 if run.engine.options.overlap else 1
    assert int(run.controller.received("hello")[0]["capabilities"]["plan_delay_steps"]) == delay
    assert min(ages) >= delay
    assert median(ages) <= delay + 2


def test_a_steps_time_is_its_own(run: Run) -> None:
    """Nothing is counted twice or left out; long steps are those with long lengths, not those beside them."""
    total = sum(int(report["duration_ns"]) for report in run.reports) / 1e9
    assert 0.8 * run.ran_seconds <= total <= run.seconds
    full = {
        int(report["sequence"]): report
        for report in run.reports
        if steps(report) == 1 and len(report.get("slots", [])) == 8 and "disturbances" not in report
    }

    def gap(shift: int) -> float:
        """By how much steps take longer that are `shift` steps from long ones than from short ones."""
        times: dict[bool, list[int]] = {False: [], True: []}
        for sequence, report in full.items():
            length, other = int(report.get("proposal_length", 0)), full.get(sequence + shift)
            if length != 2 and other is not None:
                times[length > 2].append(int(other["duration_ns"]))
        return median(times[True]) - median(times[False])

    assert gap(0) > max(gap(-1), gap(1))


def test_the_hello_says_what_can_be_set(run: Run) -> None:
    """One length per batch, of those that the engine has built."""
    hello = run.controller.received("hello")[0]
    capabilities = hello["capabilities"]
    assert hello["engine_name"] == "sglang"
    assert hello["method"] == run.engine.options.method
    assert (int(hello["max_length"]), int(hello["static_length"])) == (STEPS, STEPS)
    assert [int(n) for n in capabilities["candidate_lengths"]] == list(range(STEPS + 1))
    assert run.engine.call(sglang_adapter.built_lengths) == list(range(STEPS + 1))
    assert capabilities["proposal_settable"]
    assert "verification_per_request" not in capabilities
    assert "deep_off" not in capabilities


def test_nothing_is_kept_of_requests_that_are_gone(
    run: Run, asks: list[Ask], reference: list[list[int]]
) -> None:
    """Finished or aborted, in the queue or under way."""
    some = [replace(ask, start_at=0) for ask in asks[:12]]
    some[3] = replace(some[3], abort_after=6)
    some[11] = replace(some[11], abort_after=1)
    answers, _ = run.engine.answer(some)
    whole = [i for i in range(12) if i not in (3, 11)]
    assert [answers[i].tokens for i in whole] == [reference[i] for i in whole]
    run.engine.answer(asks[:1])  # what was closed last travels with a next step
    assert run.engine.call(sglang_adapter.held_state) == {}


def test_a_callers_cap_holds_for_the_batch(run: Run, asks: list[Ask], reference: list[list[int]]) -> None:
    """While a request with a limit runs, no step is longer; its label is told to the controller."""
    some = [replace(ask, start_at=0) for ask in asks[:8]]
    some[0] = replace(some[0], custom_params={"turbospec_max_draft": 1, "turbospec_label": "chat"})
    (answers, evidence), reports = reported(run.engine, run.controller, lambda: run.engine.answer(some))
    assert [answer.tokens for answer in answers] == reference[:8]
    assert max(evidence.verified[0]) == 1
    assert max(evidence.lengths) > 1, "after it has left"
    opened = [each for report in reports for each in report.get("opened", [])]
    assert [int(each["max_draft"]) for each in opened if each.get("label") == "chat"] == [1]


def test_no_fault_of_the_adapter_reaches_a_request(
    run: Run, asks: list[Ask], reference: list[list[int]]
) -> None:
    """The last test, since it disables the adapter: from then on the operator's length applies."""
    run.engine.call(sglang_adapter.break_controller, "submit")
    answers, evidence = run.engine.answer(asks[:8])
    assert [answer.tokens for answer in answers] == reference[:8]
    assert not run.engine.call(sglang_adapter.controlled)
    assert set(evidence.lengths[2:]) == {STEPS}
