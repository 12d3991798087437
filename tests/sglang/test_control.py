"""The adapter's side of a batch with stand-ins for SGLang's objects, without an engine."""

from __future__ import annotations

import logging
import statistics
from time import thread_time
from types import SimpleNamespace
from typing import Any

import pytest
from support.yardstick import median_pass_seconds
from turbospec.adapters import exchange
from turbospec.adapters.client import ControlClient
from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import OpenedRequest, StepRecord
from turbospec.adapters.sglang import control
from turbospec.adapters.sglang.control import EngineControl
from turbospec.adapters.sglang.lengths import LengthPolicy
from turbospec.v1 import speculation_pb2 as pb

LENGTH = 4


class Clock:
    """Time that passes when a test says so, and a microsecond with each look at it."""

    def __init__(self) -> None:
        self._now_ns = 10**12

    def monotonic_ns(self) -> int:
        self._now_ns += 1000
        return self._now_ns

    def monotonic(self) -> float:
        return self.monotonic_ns() / 1e9

    def sleep(self, seconds: float) -> None:
        self._now_ns += round(seconds * 1e9)


class Client(ControlClient):
    """Keeps what is submitted; `plan` is what it gives."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("unix:/nonexistent/control.sock", pb.Hello)
        self._clock = clock
        self.submitted: list[StepRecord] = []
        self.asked = 0

    def current(self) -> AppliedPlan | None:
        self.asked += 1
        return super().current()

    def submit(self, record: StepRecord) -> None:
        super().submit(record)
        self.submitted.append(record)

    def plan(self, length: int, seconds: float = 60.0) -> None:
        expires = self._clock.monotonic() + seconds
        self._exchange.plan = AppliedPlan(1, 1, 1, max(length, 2), length, expires)


class Engine:
    """Launches and processes batches as SGLang does, with results that are told."""

    def __init__(self, client: Client, **options: Any) -> None:
        self.policy = LengthPolicy(range(LENGTH + 1), LENGTH)
        self.policy.restrict(range(LENGTH + 1))
        self.waiting_queue: list[Any] = []
        self.running_batch = SimpleNamespace(reqs=[])
        options.setdefault("own_thread_computes", True)
        self.control = EngineControl(self, self.policy, client, logging.getLogger(__name__), **options)

    def prefill(self, *requests: Any, after_idle: bool = False) -> None:
        batch = _batch(requests, extend=True)
        result = self.launch(batch, after_idle=after_idle)
        self.process(batch, result, [0] * len(requests))

    def launch(self, batch: Any, *, after_idle: bool = False) -> Any:
        self.control.before_launch(batch, after_idle=after_idle)
        length = self.policy.get_steps_for_batch(len(batch.reqs))
        result = _Result()
        if not batch.forward_mode.is_extend():
            result.speculative_num_draft_tokens = length + 1
        self.control.after_launch(batch, result)
        return result

    def process(self, batch: Any, result: Any, accepted: list[int]) -> None:
        self.control.before_processing(batch, result)
        result.num_correct_drafts_per_req_cpu = accepted
        for request, count in zip(batch.reqs, accepted, strict=True):
            if request.finished_reason is None and not request.is_retracted:
                request.take(count + 1)
        self.control.after_processing(batch, result)

    def decode(self, *requests: Any, accepted: list[int]) -> None:
        batch = _batch(requests)
        self.process(batch, self.launch(batch), accepted)


class _Result:
    speculative_num_draft_tokens: int | None = None
    num_correct_drafts_per_req_cpu: list[int] | None = None


def _batch(requests: Any, *, extend: bool = False) -> Any:
    mode = SimpleNamespace(is_extend=lambda: extend, is_idle=lambda: False)
    tokens = sum(len(request.origin_input_ids) for request in requests) if extend else None
    return SimpleNamespace(
        reqs=list(requests), forward_mode=mode, extend_num_tokens=tokens, has_grammar=False
    )


class Request:
    def __init__(self, rid: str, max_tokens: int = 100, **custom_params: Any) -> None:
        self.rid = rid
        self.origin_input_ids = [1, 2, 3]
        self.output_ids: list[int] = []
        self.kv = SimpleNamespace(kv_committed_len=3)
        self.sampling_params = SimpleNamespace(custom_params=custom_params or None)
        self.finished_reason: str | None = None
        self.finished_len: int | None = None
        self.is_retracted = False
        self.retraction_count = 0
        self._max_tokens = max_tokens

    def take(self, tokens: int) -> None:
        if self.output_ids:
            self.kv.kv_committed_len += tokens
        self.output_ids += [7] * tokens
        if len(self.output_ids) >= self._max_tokens:
            self.finished_reason, self.finished_len = "length", self._max_tokens


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The adapter's."""
    made = Clock()
    monkeypatch.setattr(control, "monotonic", made.monotonic)
    monkeypatch.setattr(control, "monotonic_ns", made.monotonic_ns)
    monkeypatch.setattr(exchange, "time", made)
    return made


@pytest.fixture
def client(clock: Clock) -> Client:
    return Client(clock)


def test_a_batch_is_reported_as_it_ran(client: Client) -> None:
    """Lengths as the worker ran them, contexts before the step, tokens that callers receive."""
    client.plan(3)
    engine = Engine(client)
    a, b = Request("a"), Request("b", max_tokens=4)
    engine.prefill(a, b, after_idle=True)
    engine.decode(a, b, accepted=[3, 1])
    engine.decode(a, b, accepted=[0, 2])
    first, second, third = client.submitted
    assert (first.prefill_tokens, first.requests, first.emitted_tokens) == (6, 2, 2)
    assert first.request_ids == []
    assert first.disturbances == [pb.DISTURBANCE_AFTER_IDLE, pb.DISTURBANCE_PREFILL]
    assert second.request_ids == ["a", "b"]
    assert second.proposed == second.verified == [3, 3]
    assert second.accepted == [3, 1]
    assert second.context_tokens == [4, 4]
    assert second.emitted_tokens == 6
    assert second.proposal_length == 3
    assert second.plan is not None
    assert third.context_tokens == [8, 6]
    assert third.emitted_tokens == 2, "one for each: the second ends there, with two that nobody receives"
    assert [record.duration_ns > 0 for record in client.submitted] == [True] * 3
    opened = [e.request_id for r in client.submitted for e in r.events if isinstance(e, OpenedRequest)]
    assert opened == ["a", "b"]
    assert third.events == ["b"]


def test_output_of_a_request_that_has_ended_is_nobodys(client: Client) -> None:
    """With overlap a batch is launched before it is known that a request in it has ended."""
    client.plan(2)
    engine = Engine(client)
    a, b = Request("a"), Request("b", max_tokens=2)
    engine.prefill(a, b)
    batch = _batch([b, a])
    result = engine.launch(batch)
    ahead = engine.launch(batch)
    engine.process(batch, result, [0, 1])
    engine.process(batch, ahead, [2, 2])
    last = client.submitted[-1]
    assert (last.request_ids, last.accepted, last.emitted_tokens, last.requests) == (["a"], [2], 3, 2)


def test_no_plan_is_the_operators_length(client: Client) -> None:
    """And the step says that no plan applied."""
    engine = Engine(client)
    engine.decode(Request("a"), accepted=[4])
    assert client.submitted[0].plan is None
    assert client.submitted[0].proposal_length == LENGTH


def test_the_smallest_cap_holds_for_the_batch(client: Client) -> None:
    """There is one length for all; with a plan, without, and no longer than its request lives."""
    engine = Engine(client)
    capped = Request("capped", max_tokens=4, turbospec_max_draft=1)
    other = Request("other", turbospec_max_draft=3)
    engine.prefill(capped, other)
    engine.decode(capped, other, accepted=[0, 0])
    client.plan(4)
    engine.decode(capped, other, accepted=[1, 1])
    engine.decode(other, accepted=[0])
    assert [record.proposal_length for record in client.submitted[1:]] == [1, 1, 3]


def test_a_bad_intent_is_ignored_and_said_once(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Under the names that vLLM's callers use."""
    engine = Engine(client)
    engine.prefill(Request("a", turbospec_max_draft="many"), Request("b", turbospec_max_draft=-1))
    engine.prefill(Request("c", turbospec_label="batch"))
    events = [e for record in client.submitted for e in record.events if isinstance(e, OpenedRequest)]
    assert [(e.max_draft, e.label) for e in events] == [(None, ""), (None, ""), (None, "batch")]
    assert len([record for record in caplog.records if "turbospec_max_draft" in record.message]) == 1


def test_requests_leave_however_they_end(client: Client) -> None:
    """Aborted in the queue after a retraction, or in a way that no hook sees: none is kept for ever."""
    engine = Engine(client)
    retracted, lost, queued = Request("retracted"), Request("lost", turbospec_max_draft=0), Request("queued")
    engine.prefill(retracted, lost, queued)
    engine.control.request_aborted(retracted)
    engine.waiting_queue.append(queued)
    engine.prefill(Request("new"), after_idle=True)
    closed = [event for record in client.submitted for event in record.events if isinstance(event, str)]
    assert closed == ["retracted", "lost"]
    engine.decode(queued, accepted=[4])
    assert client.submitted[-1].proposal_length == LENGTH


def test_the_time_of_a_pause_is_nobodys(client: Client) -> None:
    """The step after it is not timed, the next is again."""
    engine = Engine(client)
    request = Request("a")
    engine.decode(request, accepted=[0])
    engine.control.resumed()
    engine.decode(request, accepted=[0])
    engine.decode(request, accepted=[0])
    assert [record.duration_ns > 0 for record in client.submitted] == [True, False, True]


@pytest.mark.parametrize("own_thread_computes", [True, False])
def test_a_step_takes_from_the_end_of_the_one_before(
    client: Client, clock: Clock, own_thread_computes: bool
) -> None:
    """On CPUs it ends with its launch, elsewhere with its results; after idle time it has its own start."""
    engine = Engine(client, own_thread_computes=own_thread_computes)
    batch = _batch([Request("a")])

    def step(*, after_idle: bool = False, launch: float = 0.0, results: float = 0.0) -> float:
        engine.control.before_launch(batch, after_idle=after_idle)
        clock.sleep(launch)
        result = _Result()
        result.speculative_num_draft_tokens = 1
        engine.control.after_launch(batch, result)
        clock.sleep(results)
        engine.process(batch, result, [0])
        return client.submitted[-1].duration_ns / 1e9

    step(after_idle=True)
    clock.sleep(0.05)
    assert step(launch=0.02) >= 0.07
    clock.sleep(0.2)
    assert step(after_idle=True, launch=0.02) < 0.2
    waited = step(results=0.05)
    assert (waited >= 0.05) is not own_thread_computes
    assert (step() >= 0.05) is own_thread_computes


def test_other_ranks_learn_of_a_length_once_per_batch(client: Client, clock: Clock) -> None:
    """It may be asked for in every turn of the loop; what is counted is batches."""
    engine = Engine(client, chosen_elsewhere=True)
    client.plan(2)
    assert [engine.control.next_length() for _ in range(3)] == [2, 2, 2]
    assert client.asked == 1
    engine.decode(Request("a"), accepted=[0])
    assert engine.policy.length is None, "the broadcast sets it, on this rank as on the others"
    client.plan(1, seconds=0.05)
    assert engine.control.next_length() == 1
    clock.sleep(0.06)
    assert [engine.control.next_length() for _ in range(3)] == [None] * 3, "no longer than it is valid"
    assert client.asked == 3


@pytest.mark.parametrize("chosen_elsewhere", [False, True])
def test_a_failing_adapter_leaves_the_operators_length(
    client: Client, caplog: pytest.LogCaptureFixture, chosen_elsewhere: bool
) -> None:
    """Whatever it was that failed: one traceback, the engine's own length, and no hook that runs again."""
    client.plan(1)
    engine = Engine(client, chosen_elsewhere=chosen_elsewhere)
    engine.control.next_length()
    engine.decode(Request("a"), accepted=[0])
    broken = SimpleNamespace(reqs=[SimpleNamespace(rid="b")])
    engine.control.after_launch(broken, _Result())
    engine.decode(Request("c"), accepted=[0])
    assert not engine.control.enabled
    assert engine.control.next_length() is None
    assert engine.policy.get_steps_for_batch(1) == LENGTH
    assert len(client.submitted) == 1
    assert client.disabled
    assert len([record for record in caplog.records if record.exc_info]) == 1


def median_step_seconds(client: Client, count: int) -> float:
    """Median over 300 steps of the four hooks together, for a batch of `count` decoding requests."""
    engine = Engine(client)
    requests = [Request(f"r{i:032x}", max_tokens=10_000) for i in range(count)]
    engine.prefill(*requests)
    batch, seconds = _batch(requests), []
    for _ in range(300):
        result = _Result()
        result.speculative_num_draft_tokens = LENGTH + 1
        began = thread_time()
        engine.control.before_launch(batch, after_idle=False)
        engine.control.after_launch(batch, result)
        engine.control.before_processing(batch, result)
        spent = thread_time() - began
        result.num_correct_drafts_per_req_cpu = [1] * count
        for request in requests:
            request.take(2)
        began = thread_time()
        engine.control.after_processing(batch, result)
        seconds.append(spent + thread_time() - began)
    assert engine.control.enabled
    return statistics.median(seconds)


@pytest.mark.parametrize("count", [64, 256])
def test_a_step_costs_microseconds(client: Client, count: int) -> None:
    """A step's hooks cost what some plain passes over the batch cost, on a processor of any speed."""
    client.plan(3, seconds=3600)
    best = min(median_step_seconds(client, count) / median_pass_seconds(count) for _ in range(3))
    assert best <= 8
