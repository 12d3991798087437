"""The drafter's share of prompts is told from what prompts cost with it and without it."""

from __future__ import annotations

import numpy as np
import pytest
from turbospec.sidecar.core.prefill import KNOWN_REPORTS, PrefillCosts
from turbospec.sidecar.core.types import Disturbance, Observation

DECODE = 0.05
PROMPT = frozenset({Disturbance.PREFILL})


def step(
    prompt_tokens: int,
    seconds: float,
    *,
    skipped: bool = False,
    disturbances: frozenset[Disturbance] = PROMPT,
    emitted: int = 10,
) -> Observation:
    none = np.array([], dtype=np.int64)
    return Observation(
        sequence=1,
        duration=seconds,
        requests=10,
        slots=none,
        proposed=none,
        verified=none,
        accepted=none,
        context_tokens=none,
        proposal_length=0,
        emitted_tokens=emitted,
        prefill_tokens=prompt_tokens,
        disturbances=disturbances,
        drafter_skipped=skipped,
    )


def teach(costs: PrefillCosts, steps: int, *, drafting: float = 0.0002, skipping: float = 0.00015) -> None:
    """Steps with a prompt of 100 tokens, each followed by three without; seconds per prompt token."""
    for skipped, seconds in ((False, drafting), (True, skipping)):
        for _ in range(steps):
            costs.observe(step(100, DECODE + 100 * seconds, skipped=skipped), DECODE)
            for _ in range(3):
                costs.observe(step(0, DECODE, skipped=skipped, disturbances=frozenset()), DECODE)


def test_the_drafters_share_is_spread_over_the_tokens_that_users_get() -> None:
    """100 prompt tokens in four steps of 10 tokens: each token is delayed by 2.5 times the difference."""
    costs = PrefillCosts()
    teach(costs, 30)
    assert costs.drafter_seconds == pytest.approx(2.5 * 0.00005, rel=0.05)


def test_nothing_is_said_before_both_were_seen() -> None:
    """With the drafter's prompts alone there is nothing to compare."""
    costs = PrefillCosts()
    for _ in range(100):
        costs.observe(step(100, 1.0), DECODE)
    assert costs.drafter_seconds == 0.0
    teach(costs, KNOWN_REPORTS - 1)
    assert costs.drafter_seconds == 0.0
    teach(costs, 1)
    assert costs.drafter_seconds > 0.0


def test_a_drafter_cannot_make_prompts_cheaper() -> None:
    """Where prompts seem to cost less with it, that is noise."""
    costs = PrefillCosts()
    teach(costs, 30, drafting=0.0001)
    assert costs.drafter_seconds == 0.0


@pytest.mark.parametrize("flagged", [True, False])
def test_other_disturbances_do_not_count(flagged: bool) -> None:
    """A pause that is flagged changes nothing, one that is not as much as a few prompts would."""
    costs = PrefillCosts()
    teach(costs, 30)
    before = costs.drafter_seconds
    flags = PROMPT | {Disturbance.PREEMPTION} if flagged else PROMPT
    costs.observe(step(100, DECODE + 60.0, disturbances=flags), DECODE)
    if flagged:
        assert costs.drafter_seconds == pytest.approx(before, rel=0.2)
    else:
        assert before < costs.drafter_seconds < 2.0 * before
