"""A world driven by the control core itself, without protocol or process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

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


class DirectEngine:
    """A world, a controller, and `lag`: the step that ends as number t is answered in step t + lag."""

    def __init__(self, world: World, controller: EngineController | None = None, *, lag: int = 1) -> None:
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
        self.controller.observe(observation)
        return decision, observation
