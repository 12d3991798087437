"""Engines that are configured otherwise, and the real controller: answers stay those of no speculation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import sglang_adapter
from support.controllers import ControllerProcess
from support.patience import wait_until
from support.sglang_reported import reported
from support.sglang_server import Server
from support.sglang_setup import STEPS, Ask, EngineOptions
from support.sglang_worker import Engine
from support.sidecar import Sidecar
from support.vllm_server import Load
from turbospec.engines.models import MadeModels
from turbospec.engines.processes import free_port

pytestmark = pytest.mark.sglang

# Prompts come in parts, and there is a prefix cache.
CRAMPED = {"chunked_prefill_size": 16, "max_total_tokens": 1200, "disable_radix_cache": False}


@contextmanager
def started(options: EngineOptions, control: str) -> Iterator[Engine]:
    options.environ = {"TURBOSPEC_CONTROL_ADDRESS": control, "TURBOSPEC_ENGINE_ID": "engine"}
    engine = Engine(options)
    try:
        engine.call(sglang_adapter.wait_connected)
        yield engine
    finally:
        engine.stop()


@pytest.fixture
def wandering(tmp_path: Path) -> Iterator[ControllerProcess]:
    """A controller that sends another length with each plan, at `tmp_path`/c.sock."""
    controller = ControllerProcess(f"unix:{tmp_path / 'c.sock'}", "wanders", tmp_path / "journal")
    yield controller
    controller.kill()


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    running = Sidecar(tmp_path, "random:7")
    yield running
    running.stop()


@pytest.fixture
def options(models: MadeModels, drafts: dict[str, str | None]) -> EngineOptions:
    return EngineOptions(
        model=str(models.target), method="STANDALONE", draft=drafts["STANDALONE"], overlap=True
    )


def test_where_memory_is_short(
    options: EngineOptions,
    wandering: ControllerProcess,
    tmp_path: Path,
    asks: list[Ask],
    reference: list[list[int]],
) -> None:
    """Prompts in parts, prefixes from the cache, requests that are retracted and start again."""
    options.arguments = CRAMPED
    with started(options, f"unix:{tmp_path / 'c.sock'}") as engine:
        engine.call(sglang_adapter.retract_often)
        together = [Ask(ask.prompt, ask.max_tokens) for ask in asks[:10]]
        (answers, evidence), reports = reported(engine, wandering, lambda: engine.answer(together))
        engine.answer(asks[:1])  # what was closed last travels with a next step
        assert engine.call(sglang_adapter.controlled)
        assert engine.call(sglang_adapter.held_state) == {}
    assert [answer.tokens for answer in answers] == reference[:10]
    assert len(set(evidence.lengths)) == STEPS + 1
    assert any("DISTURBANCE_PREEMPTION" in report.get("disturbances", []) for report in reports)
    opened = [each for report in reports for each in report.get("opened", [])]
    assert len(opened) == len(together), "a request that starts again is no new one"
    tokens = sum(int(report.get("emitted_tokens", 0)) for report in reports)
    assert tokens >= sum(ask.max_tokens for ask in together)


def test_an_operators_own_adaptive_lengths(
    options: EngineOptions,
    drafts: dict[str, str | None],
    wandering: ControllerProcess,
    tmp_path: Path,
    asks: list[Ask],
    reference: list[list[int]],
) -> None:
    """What --speculative-adaptive names is what may be set, and its policy is back when there is no plan."""
    lengths = tmp_path / "lengths.json"
    lengths.write_text(json.dumps({"1": {"candidate_steps": [1, 3], "warmup_batches": 2}}))
    options.method, options.draft, options.steps = "EAGLE", drafts["EAGLE"], 3
    options.arguments = {"speculative_adaptive": True, "speculative_adaptive_config": str(lengths)}
    with started(options, f"unix:{tmp_path / 'c.sock'}") as engine:
        assert engine.call(sglang_adapter.declared_lengths) == [1, 3]
        (answers, evidence), _ = reported(engine, wandering, lambda: engine.answer(asks[:8]))
        assert [answer.tokens for answer in answers] == reference[:8]
        assert set(evidence.lengths) == {1, 3}
        wandering.kill()
        engine.call(sglang_adapter.wait_without_plan)
        answers, evidence = engine.answer(asks[:8])
        assert engine.call(sglang_adapter.controlled)
    assert [answer.tokens for answer in answers] == reference[:8]
    assert set(evidence.lengths) <= {1, 3}
    # By its own rule, which follows what is accepted, and so not at every step.
    assert sum(a != b for a, b in zip(evidence.lengths, evidence.lengths[1:], strict=False)) <= 10


def test_the_real_controller(
    options: EngineOptions, sidecar: Sidecar, asks: list[Ask], reference: list[list[int]]
) -> None:
    """One length for all, of those that were declared; random ones, and those that it finds to be best."""
    with started(options, sidecar.control_address) as engine:
        for policy in ("random:7", "goodput"):
            sidecar.set_policy(policy)
            answers, evidence = engine.answer(asks)
            assert [answer.tokens for answer in answers] == reference
            assert engine.call(sglang_adapter.refused_plans) == {}
            if policy == "random:7":
                assert set(evidence.lengths) == set(range(STEPS + 1))
        decisions = [each for each in sidecar.decisions("engine") if "candidates" in each]
    assert decisions
    for decision in decisions:
        assert decision["policy"] == "goodput"
        assert {int(each.get("proposal_length", 0)) for each in decision["candidates"]} == set(
            range(STEPS + 1)
        )
        assert sum(count > 0 for count in decision.get("requests_by_verification_length", [])) <= 1


def test_data_parallel_ranks_are_engines_of_their_own(options: EngineOptions, sidecar: Sidecar) -> None:
    """Two replicas of one server, under one id; both are controlled."""
    options.overlap = False
    options.arguments = {"dp_size": 2}
    options.environ = {"TURBOSPEC_CONTROL_ADDRESS": sidecar.control_address, "TURBOSPEC_ENGINE_ID": "both"}
    server = Server(options, free_port(), Path(sidecar.control_address.removeprefix("unix:")).parent / "log")
    try:
        server.wait_until_up()
        with Load(server) as load:
            wait_until(
                lambda: sorted(controlled(sidecar)) == [("both", 0), ("both", 1)], "controlled, both of them"
            )
        assert load.answered
        assert load.failures == []
    finally:
        server.stop()


def controlled(sidecar: Sidecar) -> list[tuple[str, int]]:
    return [
        (str(engine["engine_id"]), int(engine.get("rank", 0)))
        for engine in sidecar.engines()
        if engine.get("controlled")
    ]
