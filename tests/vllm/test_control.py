"""The adapter's side of a step with vLLM's own requests and outputs, without an engine."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest
from support.vllm_cache import make_cache, make_scheduler
from turbospec.adapters.client import ControlClient
from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.vllm.control import EngineControl
from turbospec.adapters.vllm.memory import DraftMemory
from turbospec.v1 import speculation_pb2 as pb
from vllm import SamplingParams
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.request import Request

LENGTH = 4


def make_request(request_id: str) -> Request:
    request = Request(request_id, [1, 2, 3], SamplingParams(max_tokens=100), None)
    request.append_output_token_ids([7, 8])
    return request


def make_control(requests: list[Request], client: Any) -> EngineControl:
    scheduler = make_scheduler(requests, make_cache(blocks=1024), LENGTH)
    return EngineControl(
        scheduler,
        client,
        logging.getLogger(__name__),
        memory=DraftMemory(scheduler, follows_length=True, max_length=LENGTH),
        proposal_settable=True,
        stop_before_end=True,
    )


def scheduled(*requests: Request) -> SchedulerOutput:
    output = SchedulerOutput.make_empty()
    output.num_scheduled_tokens = {request.request_id: 1 for request in requests}
    output.num_spec_tokens_to_schedule = LENGTH
    return output


def test_drafts_that_are_a_step_old_are_dropped() -> None:
    """A request that the last step left out has drafts that the worker no longer knows."""
    client = ControlClient("unix:/nonexistent/control.sock", pb.Hello)
    client._exchange.plan = AppliedPlan(1, 1, 1, LENGTH, 3, time.monotonic() + 60)
    kept, skipped = make_request("kept"), make_request("skipped")
    control = make_control([kept, skipped], client)
    control.after_schedule(scheduled(kept))
    placeholders = [-1] * LENGTH
    kept.spec_token_ids = skipped.spec_token_ids = placeholders
    control.before_schedule()
    assert control.enabled
    assert kept.spec_token_ids == [-1] * 3
    assert skipped.spec_token_ids == []
    assert placeholders == [-1] * LENGTH, "all requests share the list"


def test_a_failing_adapter_needs_nothing_to_get_out_of_the_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where even a thread cannot be had, the fault stays the adapter's, logged once with its traceback."""

    class BrokenClient(ControlClient):
        def current(self) -> AppliedPlan | None:
            raise ZeroDivisionError

    def no_more_threads(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    client = BrokenClient("unix:/nonexistent/control.sock", pb.Hello)
    control = make_control([], client)
    monkeypatch.setattr(threading.Thread, "start", no_more_threads)
    control.before_schedule()
    control.before_schedule()
    assert not control.enabled
    assert client.disabled
    assert len([record for record in caplog.records if record.exc_info]) == 1
