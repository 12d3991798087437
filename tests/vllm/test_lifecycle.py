"""Requests come, are preempted, taken back, and leave; the adapter keeps nothing of those that left, and
an adapter that fails leaves the engine to itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.sidecar import Sidecar
from support.vllm_setup import LENGTH, differing, speculative_config
from support.vllm_worker import Ask, Engine, EngineOptions
from turbospec.engines.models import MadeModels

pytestmark = pytest.mark.vllm

# A request of 104 tokens takes 4 blocks of 32 in the end: eight at a time do not fit, three do.
BLOCKS = 16


@pytest.fixture(scope="module")
def engine(
    models: MadeModels,
    reference: list[list[int]],  # noqa: ARG001 - made first: one engine at a time
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Engine]:
    """Asynchronous, with too little memory for what it is asked, under random lengths."""
    sidecar = Sidecar(tmp_path_factory.mktemp("sidecar"), "random:3")
    running = Engine(
        EngineOptions(
            model=str(models.target),
            speculative=speculative_config("draft_model", models),
            asynchronous=True,
            environ={"TURBOSPEC_CONTROL_ADDRESS": sidecar.control_address},
            engine_args={
                "max_num_seqs": 8,
                "max_model_len": 128,
                "block_size": 32,
                "num_gpu_blocks_override": BLOCKS,
            },
        )
    )
    yield running
    running.stop()
    sidecar.stop()


def test_preempted_requests_are_answered_and_released(
    engine: Engine, asks: list[Ask], reference: list[list[int]]
) -> None:
    """Preemption throws away what a step in flight computed; answers stay right and nothing leaks."""
    engine.wait_controlled()
    outputs, evidence = engine.generate(asks)
    assert evidence.preemptions >= 1
    assert evidence.controlled_steps >= 50
    assert evidence.steps_in_flight == 2
    assert differing(outputs, reference) == []
    assert engine.held_state() == {}


def test_aborted_requests_are_released(engine: Engine, asks: list[Ask], reference: list[list[int]]) -> None:
    """Requests taken back while waiting, running and in flight leave nothing behind; others are not hurt."""
    taken_back = {index: 1 + 5 * index for index in range(0, len(asks), 2)}
    mixed = [replace(ask, abort_after=taken_back.get(i)) for i, ask in enumerate(asks)]
    outputs, evidence = engine.generate(mixed)
    assert evidence.controlled_steps >= 20
    aborted = [i for i in taken_back if outputs[i] == []]
    assert len(aborted) >= 6
    assert set(differing(outputs, reference)) == set(aborted)
    assert engine.held_state() == {}


def test_failed_adapter_leaves_the_engine_its_own_length(
    engine: Engine, asks: list[Ask], reference: list[list[int]]
) -> None:
    """An exception in the adapter, in the middle of serving: the engine goes on with its own length."""
    engine.break_controller("submit")
    outputs, evidence = engine.generate(asks)
    assert not evidence.enabled
    assert differing(outputs, reference) == []
    # The exception comes at the end of the first step, when the second is already scheduled.
    assert evidence.controlled_steps <= 2
    assert set(evidence.proposals[2:]) == {LENGTH}
