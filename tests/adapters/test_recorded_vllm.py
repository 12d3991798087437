"""The adapter's hooks on versions of vLLM that do not run here, from recordings of their source."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.recorded_vllm import modules
from turbospec.adapters import versions
from turbospec.adapters.vllm import compat
from turbospec.adapters.vllm.drafter import hook_runner, hook_workers, skip_drafter, workers_hooked
from turbospec.adapters.vllm.engine_core import hook_engine_core

_FOLDER = Path(__file__).parent / "recorded"
_RUNNER = "vllm.v1.worker.gpu_model_runner"


def _read(version: str) -> dict[str, Any]:
    recording: dict[str, Any] = json.loads((_FOLDER / f"vllm-{version}.json").read_text())
    return recording


@pytest.fixture(params=versions.VLLM.read)
def recording(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Of each version whose hooks are said to be in its source."""
    return _read(request.param)


def _install(recording: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on `import vllm…` finds what was recorded, and nothing else."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
        monkeypatch.delitem(sys.modules, name)
    for name, module in modules(recording).items():
        monkeypatch.setitem(sys.modules, name, module)


def test_all_hooks_are_there(recording: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter's own look at its start finds everything, for skipping the drafter too."""
    _install(recording, monkeypatch)
    assert compat.engine_version() == recording["version"]
    assert compat.missing_hooks() == []
    assert compat.missing_drafter_hooks() == []


def test_what_a_version_lacks_is_named(recording: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording says no more than the version has: without a member of it, that one is missing."""
    scheduler = recording["modules"]["vllm.v1.core.sched.scheduler"]["Scheduler"]
    scheduler["attributes"].remove("num_lookahead_tokens")
    recording["modules"][_RUNNER]["GPUModelRunner"]["methods"]["_prepare_inputs"] = ["self", "output"]
    _install(recording, monkeypatch)
    assert compat.missing_hooks() == ["Scheduler.num_lookahead_tokens is missing"]
    assert compat.missing_drafter_hooks() == [
        "GPUModelRunner._prepare_inputs has no parameter 'scheduler_output'"
    ]


def test_a_runner_gets_as_many_values_as_it_unpacks(recording: dict[str, Any]) -> None:
    """In a step without the drafter too: an engine whose runner got more, or fewer, would end."""
    count = recording["modules"][_RUNNER]["GPUModelRunner"]["values_returned"]["_prepare_inputs"]
    runner = SimpleNamespace(
        _prepare_inputs=lambda scheduler_output, tokens: ("indices", "metadata", *range(count - 2)),  # noqa: ARG005
        propose_draft_token_ids=lambda *_: "drafts",
    )
    hook_runner(runner, logging.getLogger(__name__))
    output = SimpleNamespace(scheduled_spec_decode_tokens={})
    assert len(runner._prepare_inputs(output, None)) == count
    skip_drafter(output)
    assert runner._prepare_inputs(output, None) == ("indices", None, *range(count - 2))


def test_workers_and_core_can_be_hooked(recording: dict[str, Any]) -> None:
    """The two classes of vLLM's that the adapter changes have what it changes."""
    found = modules(recording)
    wrapper = found["vllm.v1.worker.worker_base"].WorkerWrapperBase
    hook_workers(wrapper, logging.getLogger(__name__))
    assert workers_hooked(wrapper)
    core = found["vllm.v1.engine.core"].EngineCore
    before = core.post_step
    hook_engine_core(core)
    assert core.post_step is not before
