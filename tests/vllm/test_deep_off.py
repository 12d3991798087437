"""The drafter can be skipped and come back at any time: no answer changes, nobody speculates from garbage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.controllers import ControllerProcess
from support.vllm_setup import differing, speculative_config
from support.vllm_worker import Ask, Engine, EngineOptions, Evidence
from turbospec.engines.models import MadeModels

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


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
            engine_args={"max_num_seqs": 4},
        )
    )
    yield running
    running.stop()


@pytest.fixture
def switching(directory: Path) -> Iterator[ControllerProcess]:
    """A controller that changes between lengths, length 0 and no drafter every ten steps, at random."""
    controller = ControllerProcess(
        f"unix:{directory / 'control.sock'}", "switches", directory / "journal.jsonl"
    )
    yield controller
    controller.kill()


def switches(evidence: Evidence) -> int:
    """How often the drafter stopped or started."""
    return sum(a != b for a, b in zip(evidence.drafter_ran, evidence.drafter_ran[1:], strict=False))


@pytest.mark.usefixtures("switching")
def test_switching_changes_no_answer(engine: Engine, asks: list[Ask], reference: list[list[int]]) -> None:
    """Whenever the drafter stops and starts, the tokens are those of an engine without speculation."""
    engine.wait_controlled()
    outputs, evidence = engine.generate(asks)
    assert differing(outputs, reference) == []
    assert evidence.enabled
    assert evidence.decode_steps >= 100
    assert switches(evidence) >= 10
    assert evidence.drafter_ran.count(False) >= 30
    assert evidence.accepted_after_gap >= 1, "new requests speculate when the drafter is back"
    assert evidence.verified_with_gap == 0
    assert evidence.steps_in_flight == (2 if engine.asynchronous else 1)
    assert engine.held_state() == {}
