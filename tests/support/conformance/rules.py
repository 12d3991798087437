"""What must be true of every engine that went through the course. Each rule fails by AssertionError."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from statistics import median
from typing import TypeVar

from support.conformance.controller import Entry, Told
from support.conformance.course import DRAIN_MS, PLANNED, Course, Interruption, Phase
from support.conformance.subject import ENGINE_ID, LENGTH, MOST_REQUESTS, Run
from turbospec.v1 import speculation_pb2 as pb

# Beside the engine's own delay: what a plan may take on a machine that has other work.
LAG_STEPS = 2


def hello_says_who_it_is(course: Course) -> None:
    """The name that the operator gave, what is configured, and versions; the real controller takes it."""
    hello = course.hello
    assert hello.protocol_version == 1
    assert hello.engine_id == ENGINE_ID
    assert hello.engine_name == hello.engine_name.lower() != ""
    assert hello.engine_version
    assert hello.adapter_version
    assert hello.model
    assert hello.method
    assert hello.max_length == hello.static_length == LENGTH
    assert hello.max_batch == MOST_REQUESTS
    assert hello.max_context > 0
    assert hello.epoch > 0
    assert list(hello.live_requests) == []
    assert course.connections[0].faults == []


def the_controller_takes_every_message(course: Course) -> None:
    """Nothing is said that the real controller would end the stream for."""
    for connection in course.connections:
        assert connection.faults == [], f"on connection {connection.number}"


def capabilities_are_true(course: Course) -> None:
    """Under plans that use all that was declared, the engine does all of that, and nothing else."""
    phase = _of(course.planned)
    capabilities = course.hello.capabilities
    lengths = set(capabilities.candidate_lengths) or set(range(LENGTH + 1))
    told = {step.proposal_length for step in phase.run.steps if step.proposal_length is not None}
    assert told == (lengths if capabilities.proposal_settable else {LENGTH})
    widths = [set(step.verified.values()) for step in phase.run.steps if len(step.verified) > 1]
    assert any(len(each) > 1 for each in widths) is capabilities.verification_per_request


def plans_take_effect_when_declared(course: Course) -> None:
    """`plan_delay_steps` is how many steps a plan is old when it can first apply, and usually little less."""
    delay = course.hello.capabilities.plan_delay_steps
    ages = [told.message.plan_age_steps for told in _settled(_of(course.planned).told, delay)]
    assert len(ages) >= 20
    assert delay <= median(ages) <= delay + LAG_STEPS
    # Where an engine has to wait for a step before it can schedule the next, a plan has time to come.
    assert sum(age < delay for age in ages) <= 0.05 * len(ages), "declared more than it is"


def steps_run_what_their_plan_says(course: Course) -> None:
    """The plan that a report names is the one that the engine ran, in every step and for every request."""
    phase = _of(course.planned)
    by_step = _by_step(phase)
    assert len(by_step) == len(phase.run.steps)
    checked, reached = 0, Counter[bool]()
    for told, step in zip(by_step, phase.run.steps, strict=True):
        if told is None or told.given is None:
            continue
        checked += 1
        assert step.proposal_length in (None, told.given.proposal_length)
        for request_id, verified in step.verified.items():
            assert verified <= told.given.length(request_id)
        reached.update(e.verified == min(e.proposed, told.given.length(e.request_id)) for e in told.entries)
    assert checked >= len(phase.run.steps) / 2, "most steps run under a plan"
    # At a request's end fewer drafts may do.
    assert reached[True] >= 4 * reached[False], "fewer drafts are verified than plans say"


def each_step_is_reported_once(course: Course) -> None:
    """Numbers count on from 1 without a gap, and are as many as the engine's own steps."""
    for connection in course.connections:
        total = 0
        for told in connection.reports:
            total += told.steps
            assert told.message.sequence == total
    for phase in _controlled(course):
        assert sum(told.steps for told in phase.told) == len(phase.run.steps)
        assert sum(told.message.requests for told in phase.told) == sum(s.requests for s in phase.run.steps)


def drafts_add_up(course: Course) -> None:
    """Of each request's steps just those are reported that could teach something, with what they taught."""
    phase = _of(course.planned)
    assert sum(len(told.entries) for told in phase.told) >= 100
    for told in phase.told:
        for entry in told.entries:
            assert 0 <= entry.accepted <= entry.verified <= entry.proposed <= LENGTH
        if told.steps == 1:
            assert len({entry.request_id for entry in told.entries}) == len(told.entries)
    for done in phase.run.done:
        seen = [
            (step.verified[done.request_id], step.accepted[done.request_id])
            for step in phase.run.steps
            if done.request_id in step.verified
        ]
        assert [(entry.verified, entry.accepted) for entry in _entries(phase.told, done.request_id)] == seen


def tokens_add_up(course: Course) -> None:
    """Every token that a caller got is in one report; a request's entries come to its tokens and contexts."""
    # A step that is scheduled before the one before it has ended cannot know which of its drafts count.
    unknown = LENGTH * (course.hello.capabilities.plan_delay_steps - 1)
    for phase in (_of(course.planned), *filter(None, (course.misled, course.off, course.on))):
        assert _sum(phase.told, "emitted_tokens") == sum(done.tokens for done in phase.run.done)
        assert _sum(phase.told, "prefill_tokens") == sum(done.prompt_tokens for done in phase.run.done)
        for done in phase.run.done:
            entries = _entries(phase.told, done.request_id)
            # One token comes with the prompt; the last step may bring more than its caller wanted.
            tokens = 1 + sum(entry.accepted + 1 for entry in entries)
            assert done.tokens <= tokens <= done.tokens + LENGTH
            context = done.prompt_tokens + 1
            for entry in entries:
                assert context <= entry.context_tokens <= context + unknown
                context += entry.accepted + 1


def steps_take_time(course: Course) -> None:
    """Almost every step is timed, and the time of none is reported below zero or as a moment."""
    phase = _of(course.planned)
    durations = [told.message.duration_ns / told.steps for told in phase.told]
    assert sum(duration > 0 for duration in durations) >= 0.9 * len(durations)
    assert max(durations) < 60e9


def prompts_disturb(course: Course) -> None:
    """A step that computes prompts says so, and no other does."""
    for told in _of(course.planned).told:
        assert (pb.DISTURBANCE_PREFILL in told.message.disturbances) is (told.message.prefill_tokens > 0)


def nobody_is_reported_who_has_left(course: Course) -> None:
    """Requests open before they are reported on, close when they end, and are never named again."""
    for connection in course.connections:
        open_ = {request.request_id for request in connection.hello.live_requests}
        for told in connection.reports:
            open_ |= {request.request_id for request in told.opened}
            assert {entry.request_id for entry in told.entries} <= open_
            assert set(told.closed) <= open_
            open_ -= set(told.closed)
    for phase in _controlled(course):
        asked = Counter(done.request_id for done in phase.run.done)
        assert Counter(request.request_id for told in phase.told for request in told.opened) == asked
        assert Counter(id_ for told in phase.told for id_ in told.closed) == asked


def callers_are_heard(course: Course) -> None:
    """What callers say is reported, and their caps hold, also against plans that want more."""
    phase = _of(course.asked)
    opened = {request.request_id: request for told in phase.told for request in told.opened}
    never, little, _, *others = (opened[done.request_id] for done in phase.run.done)
    assert (never.max_draft, never.label) == (0, "batch")
    assert never.HasField("max_draft")
    assert (little.max_draft, little.label) == (PLANNED, "")
    assert not any(request.HasField("max_draft") or request.label for request in others)
    for step in phase.run.steps:
        assert step.verified.get(never.request_id, 0) == 0
        assert step.verified.get(little.request_id, 0) <= PLANNED
    for done in phase.run.done:
        assert opened[done.request_id].prompt_tokens == done.prompt_tokens


def an_expired_plan_is_not_used(course: Course) -> None:
    """With the last plan's time over, each step runs what the operator configured, and is counted."""
    _runs_its_own_length(_of(course.expired).run)
    assert _fallbacks(course).get("FALLBACK_REASON_EXPIRED", 0) >= 1


def an_impossible_plan_is_not_used(course: Course) -> None:
    """Of another connection, against itself, not newer than the last: none is, and they are counted."""
    phase = _of(course.misled)
    _runs_its_own_length(phase.run)
    assert not any(told.message.plan_version for told in phase.told)
    counted = _fallbacks(course)
    assert counted.get("FALLBACK_REASON_INVALID_PLAN", 0) >= 1
    assert counted.get("FALLBACK_REASON_WRONG_EPOCH", 0) >= 1


def a_new_connection_starts_with_who_is_there(course: Course) -> None:
    """The hello is the same but for its epoch, and lists every live request with all that was said of it."""
    for interruption in _interruptions(course):
        before, after = interruption.before, interruption.after
        assert after.hello.epoch != before.hello.epoch
        assert _identity(after.hello) == _identity(before.hello)
        opened = {r.request_id: r for told in before.reports for r in told.opened}
        opened |= {r.request_id: r for r in before.hello.live_requests}
        listed = {request.request_id: request for request in after.hello.live_requests}
        asked = {done.request_id for done in interruption.phase.run.done}
        assert set(listed) <= asked
        for request_id, request in listed.items():
            if request_id in opened:
                assert _without_slot(request) == _without_slot(opened[request_id])
        ended = {id_ for told in before.reports for id_ in told.closed}
        assert _decoded_after(interruption) & set(opened) <= set(listed)
        assert not ended & set(listed)


def estimators_go_on(course: Course) -> None:
    """What was learnt is kept, and the same requests go on teaching without opening again."""
    for interruption in _interruptions(course):
        before, after = interruption.before, interruption.after
        assert after.learnt_at_hello == before.learnt > 0
        listed = {request.request_id for request in after.hello.live_requests}
        assert not listed & {request.request_id for told in after.reports for request in told.opened}
        told_again = {entry.request_id for told in after.reports for entry in told.entries}
        assert listed & told_again
        assert listed & _decoded_after(interruption) <= told_again


def control_comes_back(course: Course) -> None:
    """Soon after a new hello steps run under plans again."""
    for interruption in _interruptions(course):
        again = interruption.again
        assert any(told.given is not None for told in again.told)
        assert {step.proposal_length for step in again.run.steps[-4:]} <= {None, _planned_length(course)}


def a_draining_controller_is_left_alone(course: Course) -> None:
    """For as long as it asked; meanwhile steps run what the operator configured."""
    drained = _of(course.drained)
    assert drained.before.ended_at is not None
    assert drained.after.said_hello_at - drained.before.ended_at >= DRAIN_MS / 1e3
    lengths = [s.proposal_length for s in drained.phase.run.steps if s.proposal_length is not None]
    assert LENGTH in lengths


def a_skipped_drafter_is_reported(course: Course) -> None:
    """Where deep off is declared it is done: requests with a gap verify nothing, later ones speculate."""
    if not course.hello.capabilities.deep_off:
        assert not any(told.message.drafter_skipped for told in course.told)
        return
    off, on = _of(course.off), _of(course.on)
    assert any(told.message.drafter_skipped for told in off.told)
    for told in off.told:
        assert not told.message.drafter_skipped or told.message.proposal_length == 0
    assert not any(verified for step in off.run.steps for verified in step.verified.values())
    assert any(told.message.unready_slots for told in off.told)
    assert any(verified for step in on.run.steps for verified in step.verified.values())
    assert not any(told.message.drafter_skipped for told in on.told)


Rule = Callable[[Course], None]

RULES: tuple[Rule, ...] = (
    hello_says_who_it_is,
    the_controller_takes_every_message,
    capabilities_are_true,
    plans_take_effect_when_declared,
    steps_run_what_their_plan_says,
    each_step_is_reported_once,
    drafts_add_up,
    tokens_add_up,
    steps_take_time,
    prompts_disturb,
    nobody_is_reported_who_has_left,
    callers_are_heard,
    an_expired_plan_is_not_used,
    an_impossible_plan_is_not_used,
    a_new_connection_starts_with_who_is_there,
    estimators_go_on,
    control_comes_back,
    a_draining_controller_is_left_alone,
    a_skipped_drafter_is_reported,
)


T = TypeVar("T")


def _of(part: T | None) -> T:
    assert part is not None, "its phase was left out"
    return part


def _controlled(course: Course) -> list[Phase]:
    """Phases through which the controller was there and answered."""
    phases = (course.planned, course.asked, course.misled, course.off, course.on)
    return [phase for phase in phases if phase is not None]


def _interruptions(course: Course) -> list[Interruption]:
    found = [each for each in (course.cut, course.drained) if each is not None]
    assert found, "their phases were left out"
    return found


def _entries(told: Iterable[Told], request_id: str) -> list[Entry]:
    return [entry for each in told for entry in each.entries if entry.request_id == request_id]


def _sum(told: Iterable[Told], field: str) -> int:
    return sum(getattr(each.message, field) for each in told)


def _by_step(phase: Phase) -> list[Told | None]:
    """For each step the report that has it alone, None where it came with others."""
    return [each if each.steps == 1 else None for each in phase.told for _ in range(each.steps)]


def _settled(told: Iterable[Told], delay: int) -> list[Told]:
    """Steps under a plan, without those after a pause, in which any plan had time to come."""
    found, since_idle = [], 0
    for each in told:
        since_idle = 0 if pb.DISTURBANCE_AFTER_IDLE in each.message.disturbances else since_idle + each.steps
        if since_idle >= delay and each.steps == 1 and each.given is not None:
            found.append(each)
    return found


def _runs_its_own_length(run: Run) -> None:
    assert {step.proposal_length for step in run.steps} <= {None, LENGTH}
    longest = [max(step.verified.values()) for step in run.steps if step.verified]
    assert longest.count(LENGTH) >= 0.9 * len(longest)


def _decoded_after(interruption: Interruption) -> set[str]:
    """Who decoded, as the engine itself shows it, in steps that were reported on the new connection."""
    phase = interruption.phase
    steps = sum(told.steps for told in phase.told if told.connection == interruption.after.number)
    return {request_id for step in phase.run.steps[-steps:] for request_id in step.verified}


def _fallbacks(course: Course) -> dict[str, int]:
    """The newest totals that were reported, by reason."""
    reported = [told.message.counters for told in course.told if told.message.HasField("counters")]
    return {pb.FallbackReason.Name(each.reason): each.count for each in reported[-1].fallbacks}


def _identity(hello: pb.Hello) -> pb.Hello:
    kept = pb.Hello()
    kept.CopyFrom(hello)
    kept.ClearField("epoch")
    kept.ClearField("live_requests")
    return kept


def _without_slot(request: pb.RequestOpened) -> pb.RequestOpened:
    kept = pb.RequestOpened()
    kept.CopyFrom(request)
    kept.ClearField("slot")
    return kept


def _planned_length(course: Course) -> int:
    return PLANNED if course.hello.capabilities.proposal_settable else LENGTH
