"""What the suite puts an engine through: phases, each with the evidence that its rules look at."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from support.conformance.controller import FOREVER_MS, Advice, Connection, Controller, Given, Told
from support.conformance.subject import LENGTH, MOST_REQUESTS, Ask, Run, Subject
from support.patience import wait_until
from turbospec.v1 import speculation_pb2 as pb

# Short of what is configured, so that a step under a plan cannot be taken for one without.
PLANNED = 1
SHORT_MS = 200
# Longer than an adapter waits before it comes back by itself.
DRAIN_MS = 400
# How often a run is repeated that was over before what was waited for.
ATTEMPTS = 10
# How often a run is done at most that the controller, held up by other processes, may miss much of.
TRIALS = 3
# Of a run's steps, so many must have a report of their own where it is looked at step by step.
ALONE = 0.7


@dataclass(frozen=True, slots=True)
class Phase:
    """A run, and the reports that came of it, from the one that opens its requests on."""

    run: Run
    told: list[Told]


@dataclass(frozen=True, slots=True)
class Interruption:
    """A phase whose stream was ended; the engine said hello again, on `after`, with requests under way.

    `again`: a run afterwards.
    """

    phase: Phase
    before: Connection
    after: Connection
    again: Phase


@dataclass
class Course:
    """All that is known of an engine that went through its phases; None for those that were left out.

    `expired`: no plan is valid any more. `misled`: all plans were impossible ones. `off`: with the drafter
    skipped, and `on` afterwards; only of engines that declare it.
    """

    connections: list[Connection] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    planned: Phase | None = None
    asked: Phase | None = None
    expired: Phase | None = None
    misled: Phase | None = None
    cut: Interruption | None = None
    drained: Interruption | None = None
    off: Phase | None = None
    on: Phase | None = None

    @property
    def hello(self) -> pb.Hello:
        """The first one."""
        return self.connections[0].hello


def make_asks(count: int, max_tokens: int, seed: int = 0) -> list[Ask]:
    """Prompts that repeat themselves, so that any drafter finds something."""
    rng = random.Random(seed)
    phrases = [tuple(rng.randrange(4, 500) for _ in range(12)) for _ in range(count)]
    return [
        Ask((phrase * 4)[: rng.randrange(20, 45)], max_tokens - i % 3) for i, phrase in enumerate(phrases)
    ]


def wander(connection: Connection, version: int) -> Given:
    """Other lengths in each plan: of each request where the engine has that, else one for all."""
    rng = random.Random(version)
    capabilities = connection.hello.capabilities
    longest = connection.hello.max_length
    lengths = list(capabilities.candidate_lengths) or list(range(longest + 1))
    proposal = rng.choice(lengths) if capabilities.proposal_settable else longest
    if not capabilities.verification_per_request:
        return Given(proposal, proposal, dict.fromkeys(connection.live.values(), proposal))
    by_request = {id_: rng.randint(0, proposal) for id_ in connection.live.values()}
    return Given(proposal, rng.randint(0, proposal), by_request)


def uniform(length: int, time_to_live_ms: int = FOREVER_MS) -> Advice:
    """The same length in every plan, and for every request."""

    def advice(connection: Connection, _: int) -> Given:
        settable = connection.hello.capabilities.proposal_settable
        proposal = length if settable else connection.hello.max_length
        return Given(proposal, length, time_to_live_ms=time_to_live_ms)

    return advice


def off(_: Connection, __: int) -> Given:
    """The drafter need not run."""
    return Given(0, 0, skip_drafter=True)


def impossible(_: Connection, version: int) -> Given:
    """A plan that would be seen if it were applied: of another connection, against itself, not the newest."""
    wrong: list[Callable[[pb.Plan], None]] = [_other_epoch, _contradiction, _not_newer]
    return Given(PLANNED, PLANNED, spoil=wrong[version % len(wrong)])


def _other_epoch(plan: pb.Plan) -> None:
    plan.epoch += 1


def _contradiction(plan: pb.Plan) -> None:
    plan.default_verification_length = plan.batch_proposal_length + 1


def _not_newer(plan: pb.Plan) -> None:
    plan.version = 0


def run_course(subject: Subject, folder: Path, phases: Collection[str] = ()) -> Course:
    """Starts an engine, takes it through the phases (all of them where none is named), and ends it.

    `folder`: for the controller's socket.
    """
    course = Course()
    with Controller(f"unix:{folder}/c.sock", uniform(PLANNED)) as controller:
        course.connections, course.told = controller.connections, controller.reports
        stage = _Stage(subject, controller)
        subject.start(controller.address)
        try:
            wait_until(lambda: controller.connections, "a hello")
            for name, phase in PHASES.items():
                if not phases or name in phases:
                    phase(stage, course)
        finally:
            subject.close()
        stage.sort_out()
    return course


class _Stage:
    """Runs an engine beside the controller, and knows which reports came of which run."""

    def __init__(self, subject: Subject, controller: Controller) -> None:
        self.controller = controller
        self._subject = subject
        # Each with how many reports there were before it.
        self._phases: list[tuple[Phase, int]] = []

    def serve(self, asks: list[Ask], *, alone: float = 0.0) -> Phase:
        """A run, once all of its steps are reported; at least `alone` of them each by itself.

        While the controller stands still, an adapter sums steps up, and after seconds it leaves, with steps
        that nobody is told of: as it should. Such a run is repeated. With an adapter that always does so, the
        last run is one of those.
        """
        for _ in range(TRIALS):
            connection = self.controller.newest
            phase = self.serve_unheard(asks)
            if self._heard(phase, connection, alone):
                break
        return phase

    def serve_unheard(self, asks: list[Ask]) -> Phase:
        """A run of which it is known that not all will be reported."""
        seen = len(self.controller.reports)
        phase = Phase(self._subject.serve(asks), [])
        self._phases.append((phase, seen))
        return phase

    def _heard(self, phase: Phase, connection: Connection, alone: float) -> bool:
        """Waits until there is nothing more to come of a run; whether it was reported as it should."""
        controller, steps = self.controller, len(phase.run.steps)
        seen = self._phases[-1][1]

        def reported() -> list[int]:
            first = self._first_of(phase, seen)
            return [] if first is None else [told.steps for told in controller.reports[first:]]

        wait_until(
            lambda: controller.newest is not connection or sum(reported()) >= steps,
            f"reported: {steps} steps",
        )
        if controller.newest is not connection:
            wait_until(lambda: not controller.newest.live, "reported: all that were under way have ended")
            return False
        return reported().count(1) >= alone * steps

    def serve_little(self) -> Phase:
        """A run of a few steps, so that plans of the present advice are there."""
        return self.serve(make_asks(2, 20, seed=50))

    def sort_out(self) -> None:
        """A run's reports go from the one that opens its requests to the one that opens the next run's.

        Where that one was lost with its connection, they begin with what came since the run did.
        """
        found = [(self._first_of(phase, seen), seen) for phase, seen in self._phases]
        firsts = [seen if first is None else first for first, seen in found]
        ends = [*firsts[1:], len(self.controller.reports)]
        for (phase, _), first, end in zip(self._phases, firsts, ends, strict=True):
            phase.told.extend(self.controller.reports[first:end])

    def _first_of(self, phase: Phase, start: int) -> int | None:
        ids = {done.request_id for done in phase.run.done}
        reports = self.controller.reports
        opens = (i for i in range(start, len(reports)) if ids & {r.request_id for r in reports[i].opened})
        return next(opens, None)


def _plans(stage: _Stage, course: Course) -> None:
    """More requests than run at once, under lengths that change with every report."""
    stage.controller.advice = wander
    course.planned = stage.serve(make_asks(MOST_REQUESTS + 4, 64), alone=ALONE)


def _callers(stage: _Stage, course: Course) -> None:
    """Callers set caps and labels, and one takes its request back, while plans want as much as there is."""
    stage.controller.advice = uniform(LENGTH)
    plain = make_asks(5, 48, seed=1)
    said = [
        replace(plain[0], max_draft=0, label="batch"),
        replace(plain[1], max_draft=PLANNED),
        replace(plain[2], abort_after=6),
        *plain[3:],
    ]
    course.asked = stage.serve(said)


def _expiry(stage: _Stage, course: Course) -> None:
    """The controller falls silent, and its last plan outlives its time."""
    controller = stage.controller
    for attempt in range(ATTEMPTS):
        first, last = len(controller.reports), len(controller.newest.plans) + 3
        controller.advice = _until(last, controller.newest, uniform(PLANNED, SHORT_MS))
        controller.answer()
        stage.serve_unheard(make_asks(MOST_REQUESTS, 48, seed=200 + attempt))
        # Its arrival is known by the first report that says that it applied.
        arrived = [told.at for told in controller.reports[first:] if told.message.plan_version == last]
        if arrived:
            break
    else:
        raise AssertionError(f"no step ran under the last plan that was given, in {ATTEMPTS} runs")
    wait_until(lambda: time.monotonic() > arrived[0] + SHORT_MS / 1e3, "past the last plan's time")
    course.expired = stage.serve_unheard(make_asks(MOST_REQUESTS, 32, seed=3))
    controller.advice = uniform(PLANNED)
    controller.answer()
    stage.serve_little()


def _impossible(stage: _Stage, course: Course) -> None:
    """No plan can be right. What came before them must not last, so it is short-lived."""
    stage.controller.advice = uniform(PLANNED, 1)
    stage.serve_little()
    stage.controller.advice = impossible
    stage.serve_little()
    course.misled = stage.serve(make_asks(MOST_REQUESTS, 32, seed=4))
    stage.controller.advice = uniform(PLANNED)
    stage.serve_little()


def _reconnect(stage: _Stage, course: Course) -> None:
    """The stream ends with requests under way, and the controller is there again at once."""
    course.cut = _interrupt(stage, None)


def _drain(stage: _Stage, course: Course) -> None:
    """The same, and the engine is told to stay away for a while."""
    course.drained = _interrupt(stage, DRAIN_MS)


def _deep_off(stage: _Stage, course: Course) -> None:
    """The drafter is skipped, and runs again."""
    if not course.hello.capabilities.deep_off:
        return
    stage.controller.advice = off
    stage.serve_little()
    course.off = stage.serve(make_asks(MOST_REQUESTS, 32, seed=6))
    stage.controller.advice = uniform(PLANNED)
    stage.serve_little()
    course.on = stage.serve(make_asks(MOST_REQUESTS, 32, seed=7))


PHASES: dict[str, Callable[[_Stage, Course], None]] = {
    "plans": _plans,
    "callers": _callers,
    "expiry": _expiry,
    "impossible": _impossible,
    "reconnect": _reconnect,
    "drain": _drain,
    "deep off": _deep_off,
}


def _until(last: int, here: Connection, advice: Advice) -> Advice:
    """No plan after number `last`, nor on another connection: on a slow machine silence may end this one."""
    return lambda connection, version: (
        advice(connection, version) if connection is here and version <= last else None
    )


def _interrupt(stage: _Stage, drain_ms: int | None) -> Interruption:
    controller = stage.controller
    controller.advice = uniform(PLANNED)
    for attempt in range(ATTEMPTS):
        before = controller.newest
        controller.end_stream(after=12, drain_ms=drain_ms)
        # Longer each time: on a fast machine the first may be over before the engine is back.
        asks = make_asks(MOST_REQUESTS * (1 + attempt), 240, seed=100 + attempt)
        phase = stage.serve_unheard(asks)
        wait_until(lambda before=before: controller.newest is not before, "a hello after the stream's end")
        wait_until(lambda: not controller.newest.live, "reported: all that were under way have ended")
        after = controller.newest
        # Not one that the engine left by itself, nor others in between.
        ended = before.ended_at is not None and after.number == before.number + 1
        if ended and after.hello.live_requests:
            return Interruption(phase, before, after, stage.serve_little())
    raise AssertionError(f"no hello listed a live request, in {ATTEMPTS} runs that were interrupted")
