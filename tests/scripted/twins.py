"""The same steps on two machines: what one of them met and the other did not, and what that changed."""

from __future__ import annotations

from scripted.checks import check_unmoved, prediction_errors
from support.scripted.direct import DirectEngine, merged, to_observation, to_plan
from support.scripted.world import World
from turbospec.sidecar.core.controller import EngineController
from turbospec.sidecar.core.types import Observation


class Twins:
    """Two worlds that differ in their machines only, under the plans of the first one's controller.

    `keeps_back`: the same steps of both are reported as one. In worlds that nobody enters or leaves.
    """

    def __init__(
        self, calm: World, disturbed: World, *, policy: str = "goodput", keeps_back: bool = False
    ) -> None:
        controller = EngineController(calm.capabilities, policy)
        self.calm = DirectEngine(calm, controller, keeps_back=keeps_back)
        self.disturbed = EngineController(disturbed.capabilities, policy)
        self.disturbed_world = disturbed
        self._unreported: list[Observation] = []

    def run(self, steps: int) -> None:
        for _ in range(steps):
            reports = self.calm.reports
            decision, _ = self.calm.step()
            plan = to_plan(decision, self.disturbed_world.live)
            self._unreported.append(to_observation(self.disturbed_world.step(plan)))
            if self.calm.reports > reports:
                self.disturbed.decide()
                self.disturbed.observe(merged(self._unreported))
                self._unreported = []

    def check_unmoved(self) -> None:
        """Of policies that compare lengths."""
        check_unmoved(
            prediction_errors(self.calm.controller, self.calm.world),
            prediction_errors(self.disturbed, self.disturbed_world),
        )
