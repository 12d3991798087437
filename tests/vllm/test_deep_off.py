"""The drafter can be skipped and come back at any time: no answer changes, nobody speculates from garbage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.controllers import ControllerProcess
from support.patience import wait_until
from support.sidecar import Sidecar
from support.vllm_evidence import Evidence
from support.vllm_plans import repeated
from support.vllm_rules import without
from support.vllm_setup import LENGTH, differing, speculative_config
from support.vllm_worker import Ask, Engine, EngineOptions
from turbospec.engines.models import MadeModels

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("controllers")


@pytest.fixture(scope="module", params=[False, True], ids=["synchronous", "asynchronous"])
def engine(
    request: pytest.FixtureRequest,
    models: MadeModels,
    reference: list[list[int]],  # noqa: ARG001 - made first: one engine at a time
    directory: Path,
) -> Iterator[Engine]:
    running = Engine(
        EngineOptions(
            model=str(models.target),
            speculative=speculative_config("draft_model", models),
            asynchronous=request.param,
            environ={"TURBOSPEC_CONTROL_ADDRESS": f"unix:{directory / 'control.sock'}"},
            # Blocks that are shorter than the prompts.
            engine_args={"max_num_seqs": 4, "enable_prefix_caching": True, "block_size": 32},
        )
    )
    yield running
    running.stop()


@pytest.fixture
def switching(directory: Path) -> Iterator[ControllerProcess]:
    """A controller that changes between lengths, length 0 and no drafter every five reports, at random."""
    controller = ControllerProcess(
        f"unix:{directory / 'control.sock'}", "switches", directory / "journal.jsonl"
    )
    yield controller
    controller.kill()


@pytest.fixture
def sidecar(directory: Path) -> Iterator[Sidecar]:
    running = Sidecar(directory, "off")
    yield running
    running.stop()


@pytest.fixture
def cramped_head(
    models: MadeModels,
    eagle_head: Path,
    reference: list[list[int]],  # noqa: ARG001 - made first: one engine at a time
    directory: Path,
) -> Iterator[Engine]:
    """Another method, without prefix caching, with prompts in several parts and too little memory."""
    running = Engine(
        EngineOptions(
            model=str(models.target),
            speculative=speculative_config("eagle", models, eagle_head),
            asynchronous=True,
            environ={"TURBOSPEC_CONTROL_ADDRESS": f"unix:{directory / 'control.sock'}"},
            engine_args={
                "max_num_seqs": 4,
                "max_num_batched_tokens": 32,
                "max_model_len": 128,
                "block_size": 32,
                "num_gpu_blocks_override": 11,
                "disable_log_stats": False,
            },
        )
    )
    yield running
    running.stop()


def switches(evidence: Evidence) -> int:
    """How often the drafter stopped or started."""
    return sum(a != b for a, b in zip(evidence.drafter_ran, evidence.drafter_ran[1:], strict=False))


def run_controlled(engine: Engine, asks: list[Ask], reference: list[list[int]]) -> Evidence:
    """From a plan on; all answers are the reference's."""
    engine.wait_controlled()
    outputs, evidence = engine.generate(asks)
    assert differing(outputs, reference) == []
    return evidence


def check_switching_changes_no_answer(
    engine: Engine, asks: list[Ask], reference: list[list[int]]
) -> Evidence:
    def run() -> Evidence:
        evidence = run_controlled(engine, asks, reference)
        assert evidence.enabled
        assert evidence.decode_steps >= 100
        assert evidence.verified_with_gap == 0
        assert evidence.steps_in_flight == (2 if engine.asynchronous else 1)
        assert engine.held_state() == {}
        return evidence

    evidence = repeated(run, lambda each: switches(each) >= 10 and each.drafter_ran.count(False) >= 30)
    assert evidence.accepted_after_gap >= 1, "new requests speculate when the drafter is back"
    return evidence


def next_turns(asks: list[Ask], reference: list[list[int]]) -> tuple[list[Ask], list[list[int]]]:
    """Every other ask with the beginning of its answer, as in a chat; and the rest of these answers."""
    pairs = list(zip(asks, reference, strict=True))[::2]
    again = [Ask(ask.prompt + answer[:40], ask.max_tokens - 40) for ask, answer in pairs]
    return again, [answer[40:] for _, answer in pairs]


@pytest.mark.usefixtures("switching")
def test_switching_changes_no_answer(engine: Engine, asks: list[Ask], reference: list[list[int]]) -> None:
    """Whenever the drafter stops and starts, the tokens are those of an engine without speculation.

    Nobody speculates from garbage, be it cached: the last of them start from what the first ones wrote.
    """
    again, rest = next_turns(asks, reference)
    evidence = check_switching_changes_no_answer(engine, asks + again, reference + rest)
    assert evidence.started_with_gap >= 1


@pytest.mark.usefixtures("switching")
def test_switching_a_head_in_too_little_memory(
    cramped_head: Engine, asks: list[Ask], reference: list[list[int]]
) -> None:
    """The same where requests are preempted and computed again; vLLM's metrics of drafts stay right."""
    evidence = check_switching_changes_no_answer(cramped_head, asks, reference)
    assert evidence.preemptions >= 1
    assert evidence.partial_prefills >= 1
    assert {name: count for name, count in evidence.counters.items() if count} == evidence.counts


def test_off_means_off_and_a_dead_controller_does_not(
    engine: Engine, sidecar: Sidecar, asks: list[Ask], reference: list[list[int]]
) -> None:
    """Under policy off the drafter never runs; without a controller the engine drafts as configured."""

    def run() -> Evidence:
        evidence = run_controlled(engine, asks[:8], reference[:8])
        # Where a machine stood still a step may have found its plan expired.
        ran = zip(evidence.drafter_ran, evidence.planned, strict=True)
        assert not any(drafter_ran for drafter_ran, planned in ran if planned)
        assert evidence.fetched_nothing == 0
        return evidence

    repeated(run, lambda each: each.controlled_steps >= 50)
    sidecar.kill()
    wait_until(lambda: not engine.has_plan(), "without a plan")
    outputs, evidence = engine.generate(asks[8:16])
    assert differing(outputs, reference[8:16]) == []
    assert all(evidence.drafter_ran)
    assert set(evidence.proposals) == {LENGTH}
    assert evidence.accepted >= 1
    assert evidence.enabled


def test_a_cached_prefix_without_draft_kv_heals(engine: Engine, sidecar: Sidecar) -> None:
    """Who starts from it verifies nothing; the next one with that prefix speculates again.

    The negative control: without the rule, who starts from such a prefix does verify drafts.
    """
    engine.wait_controlled()
    # Prompts that nobody has asked before, and others where the plan had expired when they came: of a
    # prompt that was met with the drafter on, the cache has no gap.
    for number in range(0, 16, 2):
        asks = [Ask([4 + (31 * n + 7 * i * i) % 500 for i in range(40)], 64) for n in (number, number + 1)]
        expected, evidence = engine.generate(asks)
        if not any(evidence.drafter_ran):
            break
    else:
        pytest.fail("no requests ran without the drafter")
    sidecar.set_policy(f"static:{LENGTH}")
    while not all(engine.generate([Ask([5, 6, 7, 8], 8)])[1].drafter_ran):
        pass  # the plan of the moment is still that of the policy before
    verified, started_with_gap = [], []
    for _ in range(3):
        outputs, evidence = engine.generate(asks[:1])
        assert outputs == expected[:1]
        # While nobody can speculate, it runs for prompts only.
        assert evidence.drafter_ran[0]
        assert all(evidence.drafter_ran) or evidence.started_with_gap
        assert evidence.verified_with_gap == 0
        verified.append(sum(evidence.verified[0]))
        started_with_gap.append(evidence.started_with_gap)
    assert started_with_gap == [1, 0, 0]
    assert verified[0] == 0
    assert min(verified[1:]) > 0
    with without(engine, "cached gaps"):
        outputs, evidence = engine.generate(asks[1:])
    assert outputs == expected[1:]
    assert evidence.started_with_gap == 1
    assert evidence.verified_with_gap >= 1


@pytest.mark.usefixtures("switching")
def test_the_evidence_of_garbage_can_be_seen(
    engine: Engine, asks: list[Ask], reference: list[list[int]]
) -> None:
    """The negative control: without the rule, requests with a gap do verify drafts. Answers stay right."""
    with without(engine, "gaps"):
        evidence = repeated(
            lambda: run_controlled(engine, asks, reference), lambda each: switches(each) >= 10
        )
    assert evidence.verified_with_gap >= 1

    # The rule is back. A few requests are enough: all of them speculated from garbage a moment ago.
    def run() -> Evidence:
        evidence = run_controlled(engine, asks[:8], reference[:8])
        assert evidence.verified_with_gap == 0
        return evidence

    repeated(run, lambda each: not all(each.drafter_ran))


@pytest.mark.usefixtures("sidecar")
def test_a_worker_that_cannot_skip_drafts(
    engine: Engine, asks: list[Ask], reference: list[list[int]]
) -> None:
    """A fault on the worker's side costs what skipping would have saved, and nothing else."""

    def run() -> Evidence:
        evidence = run_controlled(engine, asks[:4], reference[:4])
        assert all(evidence.drafter_ran)
        assert evidence.enabled
        return evidence

    engine.wait_controlled()
    engine.break_skipping()
    repeated(run, lambda each: each.controlled_steps >= 50)
