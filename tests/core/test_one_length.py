"""Engines with one length for the batch, of a few that are built, verified in the step that proposes it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from support.scripted.hello import capabilities
from turbospec.sidecar.core.controller import EngineController
from turbospec.sidecar.core.types import Observation, RequestInfo

BUILT = (0, 1, 3, 6)
REQUESTS = 8


class Engine:
    """A batch that never changes; each draft is accepted with `acceptance` after those before it."""

    def __init__(
        self, policy: str, acceptance: float, seconds_per_token: float, plan_delay_steps: int = 1
    ) -> None:
        self._acceptance = acceptance
        self._seconds_per_token = seconds_per_token
        self._draw = np.random.default_rng(5)
        self._sequence = 0
        self.controller = EngineController(
            capabilities(
                6,
                static_length=6,
                candidate_lengths=BUILT,
                verification_per_request=False,
                plan_delay_steps=plan_delay_steps,
            ),
            policy,
        )
        self._planned = [6] * plan_delay_steps

    def seconds(self, length: int) -> float:
        return 0.01 + 0.001 * length + self._seconds_per_token * REQUESTS * (length + 1)

    def goodput(self, length: int) -> float:
        """Expected tokens per second."""
        tokens = sum(self._acceptance**position for position in range(length + 1))
        return REQUESTS * tokens / self.seconds(length)

    def step(self) -> int:
        """Runs one step; its length."""
        plan = self.controller.decide()
        lengths = {plan.proposal_length, plan.default_verification_length}
        assert len(lengths.union(plan.verification_lengths.tolist())) == 1, (
            "one length, proposed and verified by all"
        )
        self._planned.append(plan.proposal_length)
        length = self._planned.pop(0)
        assert length in BUILT
        right = self._draw.random((REQUESTS, length)) < self._acceptance
        accepted = right.cumprod(axis=1).sum(axis=1)
        self._sequence += 1
        first = self._sequence == 1
        self.controller.observe(
            Observation(
                sequence=self._sequence,
                duration=self.seconds(length) * self._draw.uniform(1.0, 1.1),
                requests=REQUESTS,
                slots=np.arange(REQUESTS),
                proposed=np.full(REQUESTS, length),
                verified=np.full(REQUESTS, length),
                accepted=accepted,
                context_tokens=np.full(REQUESTS, 100 + self._sequence),
                proposal_length=length,
                emitted_tokens=int(accepted.sum()) + REQUESTS,
                opened=tuple(RequestInfo(slot, f"r{slot}") for slot in range(REQUESTS)) if first else (),
            )
        )
        return length


@pytest.mark.parametrize("plan_delay_steps", [1, 2])
@pytest.mark.parametrize(
    ("acceptance", "seconds_per_token"), [(0.9, 0.0001), (0.7, 0.0004), (0.6, 0.0008), (0.3, 0.002)]
)
def test_goodput_finds_the_best_of_what_is_built(
    acceptance: float, seconds_per_token: float, plan_delay_steps: int
) -> None:
    """Each of these worlds has another best length; nearly all steps run it."""
    engine = Engine("goodput", acceptance, seconds_per_token, plan_delay_steps)
    for _ in range(200):
        engine.step()
    used = Counter(engine.step() for _ in range(300))
    best = max(BUILT, key=engine.goodput)
    assert used[best] >= 270, (best, used)


def test_the_worlds_differ() -> None:
    """The four above are not all the same."""
    worlds = [(0.9, 0.0001), (0.7, 0.0004), (0.6, 0.0008), (0.3, 0.002)]
    assert len({max(BUILT, key=Engine("goodput", *world).goodput) for world in worlds}) >= 3


def test_a_step_without_drafts_is_no_drafter_that_found_none() -> None:
    """Lengths come and go with 0 among them; a drafter that always proposes is always expected to."""
    engine = Engine("random:3", 0.7, 0.0004)
    used = Counter(engine.step() for _ in range(200))
    assert set(used) == set(BUILT)
    assert min(used.values()) >= 20, "random lengths for all, not the shortest of many"
    assert engine.controller.acceptance().availability == 1.0
