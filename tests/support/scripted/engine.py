"""The scripted engine: a world that a controller process drives over the real protocol.

What runs here is what runs in a real engine's scheduler: the adapter's client, its threads, a stream. Only
time is virtual, and so is lag: after each step the engine waits until its plan has come, and uses it as many
steps later as was stated. So every report carries one step and runs repeat exactly.
"""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType

from support.patience import PATIENCE_SECONDS
from support.scripted.hello import make_hello
from support.scripted.recording import Recording
from support.scripted.world import Plan, Step, World
from turbospec.adapters.client import ControlClient
from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import StepRecord
from turbospec.v1 import speculation_pb2 as pb

# An answer takes about a millisecond.
_POLL_SECONDS = 0.0002


class NoPlanError(Exception):
    """The controller did not answer; the message says what the client knows."""


class ScriptedEngine:
    """Runs `world` under the controller at `address`.

    `lag`, at least 1, is the age of the plans that steps run under: step t + lag runs under the plan made
    from the report of step t. Raises NoPlanError where no plan comes within `patience` seconds of real
    time, or the connection is lost. Where plans let the client keep reports back, a step waits for its own.
    """

    def __init__(
        self,
        world: World,
        address: str,
        *,
        engine_id: str = "scripted-0",
        lag: int = 1,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.world = world
        self.engine_id = engine_id
        self.client = ControlClient(address, lambda: make_hello(engine_id, world.capabilities))
        self._patience = patience
        self._steps: list[Step] = []
        self._reported = 0
        # Until step `lag` has been reported, steps run under the plan that answered the hello.
        self.client.start()
        self._plans = deque([self._answer()], maxlen=lag)

    @property
    def recording(self) -> Recording:
        """All steps so far."""
        return Recording(self._steps)

    @property
    def plan(self) -> AppliedPlan:
        """What the next step runs under."""
        return self._plans[0]

    def run(self, steps: int) -> Recording:
        """Runs `steps`, and returns them."""
        for _ in range(steps):
            self.step()
        return self.recording.last(steps)

    def step(self) -> Step:
        """Runs one step and reports it, and waits for the answer."""
        applied = self.plan
        step = self.world.step(
            Plan(
                applied.proposal_length,
                lambda info: applied.verification_length(info.request_id),
                applied.skip_drafter,
            )
        )
        self._steps.append(step)
        self._report(step, applied)
        self._plans.append(self._answer())
        return step

    def _report(self, step: Step, applied: AppliedPlan) -> None:
        for info in step.entered:
            self.client.open_request(
                info.request_id,
                label=info.label,
                max_draft=info.max_draft,
                prompt_tokens=info.prompt_tokens,
            )
        for info in step.left:
            self.client.close_request(info.request_id)
        self._reported += 1
        self.client.submit(to_record(step, applied))

    def _answer(self) -> AppliedPlan:
        """The plan made from the newest report, or from the hello."""
        until = time.monotonic() + self._patience
        while time.monotonic() < until:
            if self.client.connected:
                # Not `current`: by the clock of a machine that stands still it may have expired meanwhile.
                plan = self.client._exchange.plan
                if plan is not None and plan.report_sequence == self._reported:
                    return plan
            elif self._reported:
                break  # on another connection steps would be counted anew
            time.sleep(_POLL_SECONDS)
        raise NoPlanError(
            f"no plan for step {self._reported} within {self._patience:g} s, or the connection was lost; "
            f"connected: {self.client.connected}, connections: {self.client.counters().connections}, "
            f"fallbacks: {self.client.fallbacks()}"
        )

    def close(self) -> None:
        """Leaves the controller."""
        self.client.close()

    def __enter__(self) -> ScriptedEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def to_record(step: Step, applied: AppliedPlan) -> StepRecord:
    """A step as an adapter reports it."""
    record = StepRecord()
    record.plan = applied
    record.duration_ns = round(1e9 * step.seconds)
    record.disturbances = [pb.Disturbance.Value(f"DISTURBANCE_{flag.name}") for flag in step.disturbances]
    record.requests = step.shape.requests
    record.prefill_tokens = step.shape.prefill_tokens
    record.proposal_length = step.shape.proposal_length
    record.emitted_tokens = step.emitted_tokens
    record.request_ids = [info.request_id for info in step.requests]
    record.proposed = step.proposed
    record.verified = step.verified
    record.accepted = step.accepted
    record.context_tokens = step.context_tokens
    record.drafter_skipped = step.shape.drafter_skipped
    record.unready = [info.request_id for info in step.unready]
    return record
