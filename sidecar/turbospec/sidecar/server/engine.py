"""One engine as the server knows it: connected, or left not long ago."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from turbospec.sidecar.core.controller import EngineController
from turbospec.sidecar.core.errors import PolicyError
from turbospec.sidecar.core.policies import parse_policy
from turbospec.sidecar.core.types import Decision, Observation, RequestInfo
from turbospec.sidecar.profiles.store import Match
from turbospec.sidecar.server.identity import AdapterCounters, EngineKey, Hello
from turbospec.sidecar.server.metrics.tally import Tally
from turbospec.sidecar.server.step_watch import StepWatch

DECISIONS_KEPT = 256  # what ExplainDecisions can show: some seconds of steps

# While nothing depends on them, reports may be this far apart: a fraction of what the law takes to turn
# speculation on again.
REPORT_INTERVAL_MS = 200.0

PLAN_STEPS = 4  # a plan takes up to two steps to be used, and the next step may be a longer one

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Directives:
    """What operators say about lengths. `length_cap` None: no cap."""

    policy: str
    shadow: bool = False
    length_cap: int | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, with what the server adds. `made_at` is in the clock's seconds."""

    version: int
    report_sequence: int
    made_at: float
    seconds: float
    requests: int
    shadow: bool
    decision: Decision


@dataclass(slots=True)
class Connection:
    """What belongs to one stream and ends with it."""

    hello: Hello
    opened_at: float
    steps: int = 0
    reported_at: float | None = None
    newest: Observation | None = None
    plan_age_steps: int | None = None
    plans: int = 0
    # Set when there is something to send: a plan is due, or the controller stops.
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Engine:
    """State of one engine scheduler. The server's event loop is its only owner: there are no locks.

    `connection` is None while the engine is away; the controller and what operators set stay. `fault` is
    what made the controller fail, if it did: the next connection then starts with a new one.
    """

    def __init__(self, hello: Hello, directives: Directives, clock: Clock) -> None:
        self.hello = hello
        self.directives = directives
        # Names of the directives that were set for this engine alone.
        self.own: frozenset[str] = frozenset()
        self.controller = self._new_controller(hello)
        self.requests: dict[int, RequestInfo] = {}
        self.decisions: deque[Decided] = deque(maxlen=DECISIONS_KEPT)
        self.tally = Tally()
        self.connection: Connection | None = None
        self.left = asyncio.Event()
        self.left_at = clock()
        self.last_connection: Connection | None = None
        self.adapter: AdapterCounters | None = None
        self.last_fallback: str | None = None
        self.fault: str | None = None
        # The profile that the controller started from.
        self.started_from: Match | None = None
        # Who is shown each step.
        self.watches: set[StepWatch] = set()
        self._clock = clock

    @property
    def key(self) -> EngineKey:
        return self.hello.key

    def connect(self, hello: Hello) -> Connection:
        """Starts a connection: resumes from what is known, or afresh if the engine is another one now."""
        same = (hello.identity, hello.capabilities) == (self.hello.identity, self.hello.capabilities)
        if not same or self.fault is not None:
            self.controller = self._new_controller(hello)
            self.started_from = None
            self.decisions.clear()
        self.hello = hello
        self.adapter = None
        self.last_fallback = None
        # Should the controller fail here, the next attempt starts with a new one.
        self.fault = "failed when the engine came back"
        self.controller.resume(hello.live_requests)
        self.requests = {request.slot: request for request in hello.live_requests}
        self.fault = None
        self.connection = self.last_connection = Connection(hello, self._clock())
        self.left.clear()
        return self.connection

    def disconnect(self) -> None:
        """Ends the connection. What was learnt stays."""
        self.connection = None
        self.left_at = self._clock()
        self.left.set()

    def observe(self, observation: Observation) -> None:
        """Feeds one report. Raises `ObservationError`, and then nothing has changed."""
        assert self.connection is not None
        self.controller.observe(observation)
        for request in observation.opened:
            self.requests[request.slot] = request
        for watch in self.watches:
            watch.offer(observation, self.requests)
        for slot in observation.closed_slots:
            del self.requests[slot]
        self.tally.add_report(observation)
        self.connection.newest = observation
        self.connection.steps += observation.steps
        self.connection.reported_at = self._clock()

    def count(self, counters: AdapterCounters) -> None:
        """Takes the adapter's totals, and remembers which reason to fall back grew last."""
        before = self.adapter.fallbacks if self.adapter else {}
        for reason, count in counters.fallbacks.items():
            if count > before.get(reason, 0):
                self.last_fallback = reason
        self.adapter = counters

    def decide(self) -> Decided:
        """Makes the next plan of this connection."""
        assert self.connection is not None
        newest = self.connection.newest
        started = self._clock()
        decision = self.controller.decide()
        now = self._clock()
        self.connection.plans += 1
        decided = Decided(
            version=self.connection.plans,
            report_sequence=newest.sequence if newest else 0,
            made_at=now,
            seconds=now - started,
            requests=newest.requests if newest else len(self.requests),
            shadow=self.directives.shadow,
            decision=decision,
        )
        self.decisions.append(decided)
        self.tally.add_plan(decision, decided.seconds)
        return decided

    def plan_time_to_live_ms(self, least: int) -> int:
        """How long a plan may be used: at least `least`, and for some steps of the length of the newest one.

        A plan must outlive the step during which it arrives: else an engine with long steps never used one.
        """
        step = self._newest_step_ms
        return least if step is None else max(least, round(PLAN_STEPS * step))

    def report_interval_ms(self, decided: Decided) -> int:
        """How long the adapter may keep back what it reports next."""
        step = self._newest_step_ms
        steps = decided.decision.report_steps
        if steps == 1 or step is None or self.watches:
            return 0
        # Half a step less: the last of them is to be in it.
        return round(min(REPORT_INTERVAL_MS, (steps - 0.5) * step))

    @property
    def _newest_step_ms(self) -> float | None:
        newest = self.connection.newest if self.connection else None
        if newest is None or newest.duration is None:
            return None
        return 1e3 * newest.duration / newest.steps

    def check(self, directives: Directives) -> None:
        """Raises `PolicyError`, naming the engine, where it cannot follow."""
        try:
            parse_policy(directives.policy, self.hello.capabilities.max_length)
        except PolicyError as error:
            raise PolicyError(f"engine {self.key}: {error}") from error

    def direct(self, directives: Directives) -> None:
        """Follows what operators say, at once; `check` has let it pass."""
        if directives == self.directives:
            return
        if directives.policy != self.directives.policy:
            self.controller.set_policy(directives.policy)
        if directives.length_cap != self.directives.length_cap:
            self.controller.set_cap(directives.length_cap)
        self.controller.set_shadow(directives.shadow)
        self.directives = directives
        self.wake()

    def reset_estimators(self) -> None:
        """Forgets what was learnt, also from a profile."""
        self.controller.reset_estimators()
        self.started_from = None
        self.wake()

    def wake(self) -> None:
        """Asks for a new plan."""
        if self.connection is not None:
            self.connection.wake.set()

    def _new_controller(self, hello: Hello) -> EngineController:
        controller = EngineController(hello.capabilities, self.directives.policy)
        if self.directives.length_cap is not None:
            controller.set_cap(self.directives.length_cap)
        controller.set_shadow(self.directives.shadow)
        return controller
