from __future__ import annotations

import dataclasses

import pytest
from turbospec.adapters.versions import VLLM
from turbospec.adapters.vllm import compat


def test_the_installed_vllm_has_all_hooks() -> None:
    """The tests run with a tested version, and it has everything that the adapter relies on."""
    assert VLLM.covers(compat.engine_version())
    assert compat.missing_hooks() == []


def test_a_changed_vllm_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that is gone, a parameter and a field that have other names: each is reported."""
    from vllm.v1.core.sched import output
    from vllm.v1.core.sched.scheduler import Scheduler

    monkeypatch.delattr(Scheduler, "_free_request")
    monkeypatch.setattr(Scheduler, "update_from_output", lambda self, output, result: None)  # noqa: ARG005
    renamed = dataclasses.make_dataclass("SchedulerOutput", ["num_scheduled_tokens"])
    monkeypatch.setattr(output, "SchedulerOutput", renamed)
    missing = compat.missing_hooks()
    assert "Scheduler._free_request is missing" in missing
    assert "Scheduler.update_from_output has no parameter 'scheduler_output'" in missing
    assert "SchedulerOutput.num_spec_tokens_to_schedule is missing" in missing
    assert "SchedulerOutput.num_scheduled_tokens is missing" not in missing
