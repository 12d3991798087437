"""Shadow mode: what would be done is worked out without trying anything."""

from __future__ import annotations

import pytest
from support.scripted.costs import Costs, linear
from support.scripted.direct import DirectEngine
from support.scripted.hello import capabilities
from support.scripted.machine import Machine
from support.scripted.traffic import TrafficClass
from support.scripted.world import World
from turbospec.sidecar.core.controller import EngineController
from turbospec.sidecar.core.types import Reason

OWN_LENGTH = 4
COSTLY = Costs(linear(0.01, 0.001), draft_pass=0.0015)


def watched(
    traffic: TrafficClass, concurrency: int, *, shadow: bool = True
) -> tuple[EngineController, set[Reason]]:
    """A controller that has watched an engine run on its own length, and the reasons it gave."""
    capable = capabilities(OWN_LENGTH)
    own = EngineController(capable, f"static:{OWN_LENGTH}")
    engine = DirectEngine(World(capable, [traffic], concurrency, Machine(COSTLY)), own)
    controller = EngineController(capable)
    controller.set_shadow(shadow)
    reasons = set()
    for _ in range(600):
        controller.observe(engine.step()[1])
        reasons.add(controller.decide().reason)
    return controller, reasons


def test_nothing_is_tried() -> None:
    """No learning walk once a step was timed, no probe: neither would teach anything."""
    controller, reasons = watched(TrafficClass((0.8,)), 4)
    assert not reasons & {Reason.PROBE}
    assert controller.decide().reason in (Reason.BEST_GOODPUT, Reason.DOES_NOT_PAY)
    assert controller.probe_steps == 0


def test_outside_of_shadow_mode_it_would_be_tried() -> None:
    """The negative control: the same controller, told that its plans apply, looks at other lengths."""
    assert watched(TrafficClass((0.8,)), 4, shadow=False)[1] & {Reason.LEARNING, Reason.PROBE}


@pytest.mark.parametrize(
    ("hazard", "concurrency", "least", "most"),
    # What the first world really offers is 2.45, of which only one batch size and length was ever seen.
    [(0.3, 16, 1.2, 3.2), (0.95, 1, 0.9, 1.1)],
    ids=["much", "none"],
)
def test_the_gain_is_estimated(hazard: float, concurrency: int, least: float, most: float) -> None:
    """Much where the engine's own length hurts, about none where it is the best."""
    controller, _ = watched(TrafficClass((hazard,)), concurrency)
    gain = controller.goodput().estimated_gain
    assert gain is not None
    assert least < gain < most


def test_applying_starts_to_learn() -> None:
    """Switched to active, the lengths that the engine never used are looked at first."""
    controller, _ = watched(TrafficClass((0.8,)), 4)
    controller.set_shadow(False)
    assert controller.decide().reason is Reason.LEARNING
