"""How steps without the drafter reach the workers, without an engine."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.sidecar import SOURCE_ROOTS
from turbospec.adapters.vllm.drafter import drafter_skipped, hook_runner, hook_workers, skip_drafter
from vllm.v1.core.sched.output import SchedulerOutput

LOGGER = logging.getLogger(__name__)


def run_plugin(code: str, **environ: str) -> None:
    """Runs `code` in a process of its own, after `plugin.register` was called as vLLM does."""
    names = {name: value for name, value in os.environ.items() if not name.startswith("TURBOSPEC_")}
    subprocess.run(
        [sys.executable, "-c", f"from turbospec.adapters.vllm.plugin import register; register(); {code}"],
        env={**names, "PYTHONPATH": SOURCE_ROOTS, **environ},
        check=True,
        timeout=240,
    )


def make_runner(requests: int = 3, *, asynchronous: bool = False) -> Any:
    """A model runner as far as its drafter is concerned; `drafted` and `kept` note what was called."""
    runner = SimpleNamespace(
        drafted=[],
        kept=[],
        requests={},
        device="cpu",
        input_batch=SimpleNamespace(req_ids=[str(i) for i in range(requests)]),
        discard_request_mask=SimpleNamespace(gpu=None),
        valid_sampled_token_count_event=object() if asynchronous else None,
        drafter=SimpleNamespace(prepare_next_token_ids_padded=lambda *_: ("next", "counts")),
        _draft_probs="old",
        _draft_prob_req_ids="old",
    )
    runner._copy_valid_sampled_token_count = lambda *args: runner.kept.append(args)
    runner._prepare_inputs = lambda output, tokens: ("indices", "metadata", 1)  # noqa: ARG005
    runner.propose_draft_token_ids = lambda *args: runner.drafted.append(args) or "drafts"
    return runner


def without_drafter() -> SchedulerOutput:
    output = SchedulerOutput.make_empty()
    skip_drafter(output)
    return output


def test_the_wheel_brings_the_plugin() -> None:
    """vLLM finds it by its entry point."""
    (point,) = metadata.entry_points(group="vllm.general_plugins", name="turbospec")
    assert isinstance(point.load(), Callable)  # type: ignore[arg-type]


def test_an_engine_that_is_not_controlled_is_left_alone() -> None:
    """Where TurboSpec is merely installed, its plugin imports nothing and changes nothing."""
    run_plugin("import sys; assert not {'vllm', 'torch', 'grpc'} & set(sys.modules)")


def test_every_process_of_a_controlled_engine_is_prepared() -> None:
    """Once, however often vLLM calls; the runner's module is not imported for it."""
    check = (
        "from vllm.v1.worker.worker_base import WorkerWrapperBase as w; import sys;"
        "first = w.initialize_from_config; register();"
        "assert first is w.initialize_from_config;"
        "from turbospec.adapters.vllm.drafter import workers_hooked; assert workers_hooked(w);"
        "assert 'vllm.v1.worker.gpu_model_runner' not in sys.modules"
    )
    run_plugin(check, TURBOSPEC_CONTROL_ADDRESS="unix:/nonexistent/control.sock")


def test_the_wish_travels_to_the_workers() -> None:
    """It survives what an executor does with an output; others carry none."""
    assert drafter_skipped(pickle.loads(pickle.dumps(without_drafter())))
    assert not drafter_skipped(SchedulerOutput.make_empty())


def test_a_step_without_the_drafter_proposes_nothing() -> None:
    """An empty proposal of vLLM's own shape, and no probabilities of old drafts."""
    runner = make_runner()
    hook_runner(runner, LOGGER)
    output = without_drafter()
    assert runner._prepare_inputs(output, None) == ("indices", None, 1)
    proposal = runner.propose_draft_token_ids(output, "sampled", "more")
    assert proposal.shape == (3, 0)
    assert proposal.dtype == torch.int64
    assert runner._draft_probs is runner._draft_prob_req_ids is None
    assert runner.drafted == runner.kept == []


@pytest.mark.parametrize("rest", [(), (1,)], ids=["0.26", "0.32"])
@pytest.mark.parametrize("verified", ["drafts", None])
def test_inputs_of_every_version_pass(rest: tuple[int, ...], verified: str | None) -> None:
    """vLLM unpacks what its runner prepared: as many values come out as went in, whatever their number."""
    runner = make_runner()
    runner._prepare_inputs = lambda output, tokens: ("indices", verified, *rest)  # noqa: ARG005
    hook_runner(runner, LOGGER)
    assert runner._prepare_inputs(without_drafter(), None) == ("indices", None, *rest)


def test_asynchronous_scheduling_gets_its_next_tokens() -> None:
    """They come from what drafting prepares, so that part is done."""
    runner = make_runner(asynchronous=True)
    hook_runner(runner, LOGGER)
    runner.propose_draft_token_ids(without_drafter(), "sampled")
    assert runner.kept == [("next", "counts")]


def test_other_steps_are_vllms() -> None:
    """Their arguments and results pass unchanged; hooking twice changes nothing more."""
    runner = make_runner()
    hook_runner(runner, LOGGER)
    hooked = runner.propose_draft_token_ids
    hook_runner(runner, LOGGER)
    assert runner.propose_draft_token_ids is hooked
    output = SchedulerOutput.make_empty()
    assert runner._prepare_inputs(output, None) == ("indices", "metadata", 1)
    assert runner.propose_draft_token_ids(output, "sampled", "more") == "drafts"
    assert runner.drafted == [(output, "sampled", "more")]


def test_drafts_to_verify_are_verified() -> None:
    """Also in a step that proposes none."""
    runner = make_runner()
    hook_runner(runner, LOGGER)
    output = without_drafter()
    output.scheduled_spec_decode_tokens = {"0": [5]}
    assert runner._prepare_inputs(output, None) == ("indices", "metadata", 1)


def test_a_worker_that_cannot_skip_drafts_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    """The fault is logged once; the engine gets what vLLM does by itself."""
    runner = make_runner()
    hook_runner(runner, LOGGER)
    del runner.input_batch
    output = without_drafter()
    for _ in range(3):
        assert runner.propose_draft_token_ids(output, "sampled") == "drafts"
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_a_worker_without_such_a_runner_starts(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever its model runner is; it drafts as always."""

    class Wrapper:
        worker = SimpleNamespace()

        def initialize_from_config(self, configs: list[Any]) -> str:
            return f"initialised {configs}"

    hook_workers(Wrapper, LOGGER)
    assert Wrapper().initialize_from_config([1]) == "initialised [1]"
    assert len([record for record in caplog.records if record.exc_info]) == 1
