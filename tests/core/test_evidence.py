"""It is visible what predicted step times rest on."""

from __future__ import annotations

from dataclasses import replace

from support.scripted.costs import Costs, linear
from support.scripted.direct import DirectEngine
from support.scripted.hello import capabilities
from support.scripted.machine import Machine
from support.scripted.traffic import TrafficClass
from support.scripted.world import World
from turbospec.sidecar.core.controller import EngineController
from turbospec.sidecar.core.cost_features import octave
from turbospec.sidecar.core.evidence import LEAST_OWN_STEPS, Basis, CellEvidence
from turbospec.sidecar.core.types import CostCell

_ENGINE = capabilities(4, deep_off=True)
_MODES = [(length, False) for length in range(5)] + [(0, True)]


def _lived(
    controller: EngineController | None = None, *, output_tokens: int = 40, keeps_back: bool = False
) -> DirectEngine:
    """An engine with 8 requests, under a static length of 2."""
    costs = Costs(linear(0.01, 0.0015), draft_pass=0.0015)
    world = World(_ENGINE, [TrafficClass((0.65,), output_tokens=output_tokens)], 8, Machine(costs))
    controller = controller or EngineController(_ENGINE, "static:2")
    engine = DirectEngine(world, controller, keeps_back=keeps_back)
    engine.run(60)
    return engine


def _evidence(controller: EngineController) -> dict[tuple[int, bool], CellEvidence]:
    """By length, of the one range of batch sizes that is known."""
    cells = controller.cost_evidence()
    assert len({(cell.least_requests, cell.most_requests) for cell in cells}) == 1
    return {(cell.proposal_length, cell.drafter_skipped): cell for cell in cells}


def test_every_length_of_a_known_batch_size_is_told() -> None:
    """Own steps where there were some, and which lengths are extrapolated from them."""
    engine = _lived()
    cells = _evidence(engine.controller)
    assert list(cells) == _MODES
    (own,) = [cell for cell in cells.values() if cell.basis is Basis.MEASURED]
    assert (own.least_requests, own.most_requests, own.proposal_length) == (6, 11, 2)
    assert own.own_steps == 60
    assert {cell.basis for cell in cells.values() if cell is not own} == {Basis.EXTRAPOLATED}


def test_what_a_profile_brings_is_not_taken_for_own_steps() -> None:
    """A profile of such an engine, or of a similar one, is told apart, until the engine's own steps come."""
    cells = _lived().controller.cost_cells()
    for same, basis in ((True, Basis.PROFILE), (False, Basis.PRIOR)):
        controller = EngineController(_ENGINE, "static:2")
        controller.start_from(cells, same_engine=same)
        before = _evidence(controller)[2, False]
        assert (before.basis, before.own_steps) == (basis, 0)
        assert before.profile_steps + before.prior_steps == sum(cell.steps for cell in cells)
        after = _evidence(_lived(controller).controller)[2, False]
        assert after.basis is Basis.MEASURED
        assert (after.profile_steps, after.prior_steps) == (before.profile_steps, before.prior_steps)


def test_steps_that_are_reported_as_one_count_as_one() -> None:
    """What they teach is one time, their mean, in which an outlier cannot be told: three such reports make a
    measurement, not three steps of one. What a profile keeps of them is counted likewise."""
    engine = _lived(output_tokens=1_000_000, keeps_back=True)
    own = _evidence(engine.controller)[2, False]
    assert own.own_steps == engine.reports < 40
    kept = sum(cell.steps for cell in engine.controller.cost_cells())
    assert own.own_steps - kept <= 2 * LEAST_OWN_STEPS, "what was met less than three times is not kept"


def test_forgotten_is_forgotten() -> None:
    """With the estimators goes what they rested on."""
    controller = _lived().controller
    controller.reset_estimators()
    assert controller.cost_evidence() == ()


def test_a_single_step_is_no_measurement() -> None:
    """The cost model waits for more before it believes the first; until then the cell rests on others."""
    cell = CellEvidence(1, 1, 3, drafter_skipped=False, own_steps=0, profile_steps=0, prior_steps=0)
    for steps in range(LEAST_OWN_STEPS):
        assert replace(cell, own_steps=steps).basis is Basis.EXTRAPOLATED
        assert replace(cell, own_steps=steps, prior_steps=9).basis is Basis.PRIOR
    assert replace(cell, own_steps=LEAST_OWN_STEPS, profile_steps=9).basis is Basis.MEASURED


def test_ranges_are_the_cost_models() -> None:
    """Every batch size is in the range that its octave is shown with."""
    for requests in range(1, 300):
        controller = EngineController(_ENGINE)
        known = CostCell(requests, requests, 64, 0, False, False, steps=9, seconds=0.01, spread_seconds=0.0)
        controller.start_from((known,), same_engine=True)
        first = controller.cost_evidence()[0]
        assert first.least_requests <= requests <= first.most_requests
        assert octave(first.least_requests) == octave(first.most_requests) == octave(requests)
