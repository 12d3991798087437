"""A world driven by the control core itself, without protocol or process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from support.scripted.recording import Recording
from support.scripted.world import Plan, Step, World
from turbospec.sidecar.core.controller import EngineController
from turbospec.sidecar.core.types import Decision, Observation, RequestInfo


def to_plan(decision: Decision, live: Iterable[RequestInfo]) -> Plan:
    """A decision as the world takes it. `live`: who had the slots when it was made."""
    request_in = {info.slot: info.request_id for info in live}
    named = zip(decision.slots.tolist(), decision.verification_lengths.tolist(), strict=True)
    lengths = {request_in[slot]: length for slot, length in named}
    default = decision.default_verification_length
    return Plan(
        decision.proposal_length, lambda info: lengths.get(info.request_id, default), decision.skip_drafter
    )


def to_observation(step: Step) -> Observation:
    """A step as the core takes it."""
    columns = np.array(
        [
            [info.slot for info in step.requests],
            step.proposed,
            step.verified,
            step.accepted,
            step.context_tokens,
        ],
        dtype=np.int64,
    )
    return Observation(
        sequence=step.number,
        duration=step.seconds,
        requests=step.shape.requests,
        slots=columns[0],
        proposed=columns[1],
        verified=columns[2],
        accepted=columns[3],
        context_tokens=columns[4],
        proposal_length=step.shape.proposal_length,
        emitted_tokens=step.emitted_tokens,
        prefill_tokens=step.shape.prefill_tokens,
        disturbances=step.disturbances,
        opened=step.entered,
        closed_slots=tuple(info.slot for info in step.left),
        drafter_skipped=step.shape.drafter_skipped,
        unready_slots=tuple(info.slot for info in step.unready),
    )


def merged(steps: list[Observation]) -> Observation:
    """Several steps as one report, as the adapter makes it."""
    if len(steps) == 1:
        return steps[0]
    columns = {
        name: np.concatenate([getattr(step, name) for step in steps])
        for name in ("slots", "proposed", "verified", "accepted", "context_tokens")
    }
    return replace(
        steps[-1],
        **columns,
        steps=len(steps),
        duration=sum(step.duration or 0.0 for step in steps),
        requests=sum(step.requests for step in steps),
        emitted_tokens=sum(step.emitted_tokens for step in steps),
        prefill_tokens=sum(step.prefill_tokens for step in steps),
        disturbances=frozenset().union(*(step.disturbances for step in steps)),
    )


class DirectEngine:
    """A world, a controller, and `lag`: the step that ends as number t is answered in step t + lag.

    `keeps_back`: as many steps are reported as one as decisions allow, save where requests enter or leave.
    """

    def __init__(
        self,
        world: World,
        controller: EngineController | None = None,
        *,
        lag: int = 1,
        keeps_back: bool = False,
    ) -> None:
        self.reports = 0
        self._keeps_back = keeps_back
        self._unreported: list[Observation] = []
        self.world = world
        self.controller = controller or EngineController(world.capabilities)
        self._plans: deque[tuple[Decision, Plan]] = deque(maxlen=lag)
        self._steps: list[Step] = []

    @property
    def recording(self) -> Recording:
        """All steps so far."""
        return Recording(self._steps)

    def run(self, steps: int) -> Recording:
        """Runs `steps`, and returns them."""
        for _ in range(steps):
            self.step()
        return self.recording.last(steps)

    def step(self) -> tuple[Decision, Observation]:
        """Runs one step: what it ran under, and what was seen of it."""
        made = self.controller.decide()
        self._plans.append((made, to_plan(made, self.world.live)))
        decision, plan = self._plans[0]
        step = self.world.step(plan)
        self._steps.append(step)
        observation = to_observation(step)
        self._report(observation, made.report_steps if self._keeps_back else 1)
        return decision, observation

    def _report(self, observation: Observation, steps: int) -> None:
        if observation.opened and self._unreported:
            self.controller.observe(merged(self._unreported))
            self._unreported = []
        self._unreported.append(observation)
        if len(self._unreported) >= steps or observation.closed_slots:
            self.controller.observe(merged(self._unreported))
            self._unreported = []
            self.reports += 1
