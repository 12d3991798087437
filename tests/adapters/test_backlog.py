from __future__ import annotations

import random

import pytest
from turbospec.adapters import backlog as backlog_module
from turbospec.adapters.backlog import Backlog
from turbospec.adapters.counters import Counters
from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import OpenedRequest, StepRecord
from turbospec.v1 import speculation_pb2 as pb


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def backlog(counters: Counters) -> Backlog:
    return Backlog(counters)


def step(
    *request_ids: str, events: tuple[OpenedRequest | str, ...] = (), plan: AppliedPlan | None = None
) -> StepRecord:
    record = StepRecord()
    record.duration_ns = 1000
    record.requests = len(request_ids)
    record.emitted_tokens = len(request_ids)
    record.plan = plan
    record.request_ids = list(request_ids)
    for column in (record.proposed, record.verified, record.accepted, record.context_tokens):
        column.extend([1] * len(request_ids))
    record.events = list(events)
    return record


def opened(request_id: str) -> OpenedRequest:
    return OpenedRequest(request_id, "", None, 0)


def take(backlog: Backlog) -> pb.StepReport:
    data = backlog.take()
    assert data is not None
    return pb.ControlRequest.FromString(data).report


def test_a_step_becomes_a_report(backlog: Backlog) -> None:
    """What the engine's thread wrote arrives field by field, under slots."""
    backlog.begin(1)
    record = step("a", "b", events=(OpenedRequest("a", "chat", 0, 5), opened("b")))
    record.disturbances = [pb.DISTURBANCE_PREFILL]
    record.prefill_tokens, record.proposal_length, record.kv_cache_usage_ratio = 7, 3, 0.5
    record.plan = AppliedPlan(4, 1, 0, 3, 3, 0.0)
    backlog.absorb(record)
    report = take(backlog)
    assert (report.sequence, report.steps, report.duration_ns, report.requests) == (1, 1, 1000, 2)
    assert (report.prefill_tokens, report.proposal_length, report.kv_cache_usage_ratio) == (7, 3, 0.5)
    assert (report.plan_version, report.plan_age_steps) == (4, 1)
    assert list(report.slots) == [0, 1]
    assert list(report.disturbances) == [pb.DISTURBANCE_PREFILL]
    assert report.opened[0] == pb.RequestOpened(
        slot=0, request_id="a", label="chat", max_draft=0, prompt_tokens=5
    )
    assert not report.opened[1].HasField("max_draft")
    assert backlog.take() is None


def test_waiting_steps_are_summed(backlog: Backlog, counters: Counters) -> None:
    """Coalescing adds counts up and keeps every entry, and says how many steps were merged."""
    backlog.begin(1)
    backlog.absorb(step("a", events=(opened("a"),)))
    backlog.absorb(step("a"))
    backlog.absorb(step("a", events=("a",)))
    report = take(backlog)
    assert (report.sequence, report.steps, report.duration_ns) == (3, 3, 3000)
    assert (report.requests, report.emitted_tokens) == (3, 3)
    assert list(report.slots) == [0, 0, 0]
    assert list(report.closed_slots) == [0]
    assert report.counters.coalesced_steps == counters.coalesced_steps == 2
    backlog.absorb(step())
    assert not take(backlog).HasField("counters"), "nothing was counted since"


def test_who_missed_the_drafter_is_told_as_of_the_last_step(backlog: Backlog) -> None:
    """By slot, complete, and without requests that have left."""
    backlog.begin(1)
    first, second, third = (
        step("a", "b", events=(opened("a"), opened("b"))),
        step("a", "b"),
        step("a", "b", events=("a",)),
    )
    first.unready, first.drafter_skipped = ("a",), True
    second.unready, third.unready = ("a", "b"), ("a", "b")
    backlog.absorb(first)
    report = take(backlog)
    assert (report.drafter_skipped, list(report.unready_slots)) == (True, [0])
    backlog.absorb(second)
    backlog.absorb(third)
    report = take(backlog)
    assert (report.drafter_skipped, list(report.unready_slots)) == (False, [1])
    backlog.absorb(step("b"))
    assert not take(backlog).unready_slots


@pytest.mark.parametrize("unmeasured", [0, 1, 2])
def test_a_sum_with_an_unmeasured_step_is_not_measured(unmeasured: int, backlog: Backlog) -> None:
    """The duration of coalesced steps is that of all of them, or none is given."""
    backlog.begin(1)
    for i in range(3):
        record = step()
        record.duration_ns = 0 if i == unmeasured else 1000
        backlog.absorb(record)
    assert take(backlog).duration_ns == 0


@pytest.mark.parametrize("skipped", [(False, True), (True, False), (False, True, True)])
def test_a_sum_of_steps_with_and_without_the_drafter_is_not_measured(
    skipped: tuple[bool, ...], backlog: Backlog
) -> None:
    """One report says of all its steps what held in the last; their mean is the time of neither."""
    backlog.begin(1)
    for without in skipped:
        record = step()
        record.drafter_skipped = without
        backlog.absorb(record)
    report = take(backlog)
    assert (report.steps, report.duration_ns) == (len(skipped), 0)


def test_a_backlog_has_a_bound(backlog: Backlog, counters: Counters) -> None:
    """However long nobody takes reports: memory is bounded, the newest steps kept, no request lost."""
    backlog.begin(1)
    backlog.absorb(step("kept", events=(opened("kept"),)))
    for i in range(3000):
        backlog.absorb(step("kept", f"r{i}", events=(opened(f"r{i}"), f"r{i}")))
    report = take(backlog)
    assert report.sequence == 3001
    assert report.steps <= backlog_module.MAX_STEPS
    assert report.steps + counters.dropped_steps == 3001
    assert len(report.slots) <= backlog_module.MAX_ENTRIES
    assert "kept" in [request.request_id for request in report.opened]
    assert len(report.opened) <= backlog_module.MAX_STEPS + 1
    assert len(backlog.slots) == 1


def test_no_report_opens_a_slot_that_it_closes(backlog: Backlog) -> None:
    """A mirror that follows the reports, as the controller does, knows each request under the right slot."""
    rng = random.Random(7)
    mirror: dict[int, str] = {request.slot: request.request_id for request in backlog.begin(1)}
    live: list[str] = []
    for i in range(2000):
        events: list[OpenedRequest | str] = []
        if live and rng.random() < 0.5:
            events.append(live.pop(rng.randrange(len(live))))
        if rng.random() < 0.5:
            live.append(f"r{i}")
            events.append(opened(f"r{i}"))
        backlog.absorb(step(*live, events=tuple(events)))
        if rng.random() < 0.3:
            report = take(backlog)
            for request in report.opened:
                assert request.slot not in mirror
                mirror[request.slot] = request.request_id
            assert set(report.slots) <= set(mirror)
            for slot in report.closed_slots:
                del mirror[slot]
            assert sorted(mirror.values()) == sorted(live)
        if rng.random() < 0.01:
            mirror = {request.slot: request.request_id for request in backlog.begin(i)}
            assert sorted(mirror.values()) == sorted(live)


def test_an_old_plan_does_not_reach_a_new_request_in_the_same_slot(backlog: Backlog) -> None:
    """A slot means the request that had it when the plan's report was made, or nobody."""
    backlog.begin(1)
    backlog.absorb(step("old", events=(opened("old"),)))
    take(backlog)
    assert backlog.slots.request_at(0, 1) == "old"
    backlog.absorb(step("old", events=("old",)))
    take(backlog)
    backlog.absorb(step("new", events=(opened("new"),)))
    assert list(take(backlog).slots) == [0], "the slot is used again"
    assert backlog.slots.request_at(0, 2) is None
    assert backlog.slots.request_at(0, 3) == "new"
    assert backlog.slots.request_at(9, 3) is None


def test_entries_of_unknown_requests_are_left_out(backlog: Backlog, counters: Counters) -> None:
    """A late result of a request that has left is counted, and the others of the step are reported."""
    backlog.begin(1)
    backlog.absorb(step("ghost", "a", events=(opened("a"),)))
    assert list(take(backlog).slots) == [0]
    assert counters.ignored_entries == 1


def test_a_request_id_may_come_back(backlog: Backlog) -> None:
    """An id that is opened again is a new request in a new slot, and the old one is closed."""
    backlog.begin(1)
    backlog.absorb(step("a", events=(opened("a"),)))
    take(backlog)
    backlog.absorb(step("a", events=("a", opened("a"))))
    report = take(backlog)
    assert list(report.closed_slots) == [0]
    assert [request.slot for request in report.opened] == list(report.slots) == [1]


def test_plans_of_an_earlier_connection_are_not_reported_as_applied(backlog: Backlog) -> None:
    """A step under a plan of the previous connection names no version of this one."""
    backlog.begin(2)
    backlog.absorb(step(plan=AppliedPlan(4, 1, 0, 3, 3, 0.0)))
    report = take(backlog)
    assert report.plan_version == 0
    assert not report.HasField("plan_age_steps")


def test_texts_of_callers_are_cut_to_the_protocol(backlog: Backlog) -> None:
    """Ids and labels come from callers: too long or not encodable, they are cut, not fatal."""
    backlog.begin(1)
    backlog.absorb(step(events=(OpenedRequest("ä" * 200, "\ud800" * 100, None, 0),)))
    request = take(backlog).opened[0]
    assert len(request.request_id.encode()) == 256
    assert len(request.label.encode()) == 64
