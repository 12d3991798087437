"""Negative controls: adapters that are each wrong in one way, and the rule that must find it out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from support.conformance import rules
from support.conformance.course import run_course
from support.conformance.rules import Rule
from support.conformance.scripted import ScriptedAdapter, ScriptedSubject
from support.scripted.world import Plan, Step
from turbospec.adapters import session
from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import StepRecord
from turbospec.sidecar.core.types import RequestInfo
from turbospec.v1 import speculation_pb2 as pb


class Anonymous(ScriptedAdapter):
    """Does not give the name that its operator gave."""

    def hello(self) -> pb.Hello:
        hello = super().hello()
        hello.engine_id = "somebody"
        return hello


class TakesPartForWhole(ScriptedAdapter):
    """Says that one length holds for the whole batch, and has more."""

    def hello(self) -> pb.Hello:
        hello = super().hello()
        hello.capabilities.verification_per_request = False
        return hello

    def lengths(self, applied: AppliedPlan | None) -> Plan:
        plan = super().lengths(applied)
        # Every other request has none.
        return dataclasses.replace(
            plan, verification_length=lambda info: int(info.request_id[1:]) % 2 * plan.proposal_length
        )


class MissesALength(ScriptedAdapter):
    """Has declared all lengths and runs 2 where 3 is asked for."""

    def lengths(self, applied: AppliedPlan | None) -> Plan:
        plan = super().lengths(applied)
        return dataclasses.replace(plan, proposal_length=2) if plan.proposal_length == 3 else plan


class SlowerThanItIs(ScriptedAdapter):
    """Declares a longer delay than it has."""

    def hello(self) -> pb.Hello:
        hello = super().hello()
        hello.capabilities.plan_delay_steps = 6
        return hello


class FollowsNoPlan(ScriptedAdapter):
    """Reports plans and runs its own length."""

    def lengths(self, _: AppliedPlan | None) -> Plan:
        return super().lengths(None)


class ReportsTwice(ScriptedAdapter):
    """Every step is submitted twice."""

    def report(self, step: Step, applied: AppliedPlan | None) -> None:
        super().report(step, applied)
        self.client.submit(self.record(step, applied))


class CountsTwice(ScriptedAdapter):
    """Accepted drafts are counted twice."""

    def record(self, step: Step, applied: AppliedPlan | None) -> StepRecord:
        record = super().record(step, applied)
        record.accepted = [2 * count for count in record.accepted]
        return record


class ForgetsAccepted(ScriptedAdapter):
    """Of accepted drafts one is not counted."""

    def record(self, step: Step, applied: AppliedPlan | None) -> StepRecord:
        record = super().record(step, applied)
        record.accepted = [max(count - 1, 0) for count in record.accepted]
        return record


class CountsSampled(ScriptedAdapter):
    """Counts a token as emitted that was sampled past the end of a request, whenever one ends."""

    def record(self, step: Step, applied: AppliedPlan | None) -> StepRecord:
        record = super().record(step, applied)
        record.emitted_tokens += len(step.left)
        return record


class OldContexts(ScriptedAdapter):
    """Contexts are those of requests' prompts."""

    def record(self, step: Step, applied: AppliedPlan | None) -> StepRecord:
        record = super().record(step, applied)
        record.context_tokens = [info.prompt_tokens for info in step.requests]
        return record


class Timeless(ScriptedAdapter):
    """Steps are not timed."""

    def record(self, step: Step, applied: AppliedPlan | None) -> StepRecord:
        record = super().record(step, applied)
        record.duration_ns = 0
        return record


class HidesPrompts(ScriptedAdapter):
    """Steps that compute prompts look like any other."""

    def record(self, step: Step, applied: AppliedPlan | None) -> StepRecord:
        record = super().record(step, applied)
        record.disturbances = []
        return record


class NeverCloses(ScriptedAdapter):
    """Requests that have ended stay open."""

    def left(self, info: RequestInfo) -> None: ...


class Deaf(ScriptedAdapter):
    """What callers say is not passed on."""

    def entered(self, info: RequestInfo) -> None:
        self.client.open_request(info.request_id, prompt_tokens=info.prompt_tokens)


class ForEver(ScriptedAdapter):
    """The last plan applies until there is another."""

    _last: AppliedPlan | None = None

    def plan(self) -> AppliedPlan | None:
        self._last = super().plan() or self._last
        return self._last


class Forgetful(ScriptedAdapter):
    """A new connection starts as if one of the requests was not there."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        backlog = self.client._backlog
        begin = backlog.begin

        def begin_without_one(epoch: int) -> list[pb.RequestOpened]:
            live = begin(epoch)
            for request in live[:1]:
                backlog.slots.close(request.request_id)
            return live[1:]

        backlog.begin = begin_without_one


class SomebodyElse(ScriptedAdapter):
    """Has another maximum in each hello, so that what was learnt of it is thrown away."""

    _hellos = 0

    def hello(self) -> pb.Hello:
        hello = super().hello()
        self._hellos += 1
        hello.max_context += self._hellos
        return hello


class StaysAway(ScriptedAdapter):
    """Once it was disconnected it follows no plan any more."""

    def lengths(self, applied: AppliedPlan | None) -> Plan:
        return super().lengths(applied if self.client.counters().connections < 2 else None)


class SkipsInSilence(ScriptedAdapter):
    """Does not say that the drafter was skipped."""

    def record(self, step: Step, applied: AppliedPlan | None) -> StepRecord:
        record = super().record(step, applied)
        record.drafter_skipped = False
        return record


BROKEN: list[tuple[type[ScriptedAdapter], str, Rule]] = [
    (Anonymous, "plans", rules.hello_says_who_it_is),
    (CountsTwice, "plans", rules.the_controller_takes_every_message),
    (TakesPartForWhole, "plans", rules.capabilities_are_true),
    (MissesALength, "plans", rules.capabilities_are_true),
    (SlowerThanItIs, "plans", rules.plans_take_effect_when_declared),
    (FollowsNoPlan, "plans", rules.steps_run_what_their_plan_says),
    (ReportsTwice, "plans", rules.each_step_is_reported_once),
    (CountsTwice, "plans", rules.drafts_add_up),
    (ForgetsAccepted, "plans", rules.drafts_add_up),
    (CountsSampled, "plans", rules.tokens_add_up),
    (OldContexts, "plans", rules.tokens_add_up),
    (Timeless, "plans", rules.steps_take_time),
    (HidesPrompts, "plans", rules.prompts_disturb),
    (NeverCloses, "plans", rules.nobody_is_reported_who_has_left),
    (Deaf, "callers", rules.callers_are_heard),
    (ForEver, "expiry", rules.an_expired_plan_is_not_used),
    (Forgetful, "reconnect", rules.a_new_connection_starts_with_who_is_there),
    (SomebodyElse, "reconnect", rules.estimators_go_on),
    (StaysAway, "reconnect", rules.control_comes_back),
    (SkipsInSilence, "deep off", rules.a_skipped_drafter_is_reported),
]


def name_of(part: Any) -> str:
    return str(getattr(part, "__name__", part))


@pytest.mark.parametrize(("broken", "phase", "rule"), BROKEN, ids=name_of)
def test_a_broken_adapter_is_found_out(
    broken: type[ScriptedAdapter], phase: str, rule: Rule, tmp_path: Path
) -> None:
    """It goes through the course like any other, and then the rule fails."""
    course = run_course(ScriptedSubject(broken), tmp_path, [phase])
    with pytest.raises(AssertionError):
        rule(course)


def test_impossible_plans_that_are_applied_are_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A client without the check that stands before plans."""
    monkeypatch.setattr(session, "check_plan", lambda *_, **__: None)
    course = run_course(ScriptedSubject(), tmp_path, ["impossible"])
    with pytest.raises(AssertionError):
        rules.an_impossible_plan_is_not_used(course)


def test_a_drain_that_is_not_heard_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A client that comes back at once, whatever it was told."""
    monkeypatch.setattr(session, "LONGEST_DRAIN_SECONDS", 0.0)
    course = run_course(ScriptedSubject(), tmp_path, ["drain"])
    with pytest.raises(AssertionError):
        rules.a_draining_controller_is_left_alone(course)


def test_every_rule_has_a_control() -> None:
    """A rule that nothing breaks says nothing."""
    controlled = {rule for _, _, rule in BROKEN}
    controlled |= {rules.an_impossible_plan_is_not_used, rules.a_draining_controller_is_left_alone}
    assert controlled == set(rules.RULES)
