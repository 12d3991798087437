"""Acceptance estimates are calibrated, whatever the verification lengths were."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from turbospec.sidecar.core.acceptance import AcceptanceEstimator
from turbospec.sidecar.core.availability import AvailabilityEstimator

LENGTH = 5
# Rising hazards, as recorded ones are: a geometric curve would not fit.
STATED = np.array([0.5, 0.6, 0.7, 0.8, 0.85])


class CountsCensoredAsRejected:
    """The negative control: every verified draft that was not accepted counts as a rejection."""

    def __init__(self) -> None:
        self.tests = np.zeros(LENGTH)
        self.accepted = np.zeros(LENGTH)

    def observe(self, _slots: np.ndarray, verified: np.ndarray, accepted: np.ndarray, _steps: int) -> None:
        position = np.arange(1, LENGTH + 1)
        self.tests += (position <= verified[:, None]).sum(axis=0)
        self.accepted += (position <= accepted[:, None]).sum(axis=0)

    def hazards(self) -> np.ndarray:
        return self.accepted / np.maximum(self.tests, 1)


def accept(draw: np.random.Generator, hazards: np.ndarray, verified: np.ndarray) -> np.ndarray:
    """Accepted counts, shape (n,), of requests with `hazards` (n, K)."""
    run = np.cumprod(draw.random(hazards.shape) < hazards, axis=1).sum(axis=1)
    return np.minimum(run, verified)


Observe = Callable[[np.ndarray, np.ndarray, np.ndarray, int], None]


def feed(observe: Observe, trim: Callable[[np.ndarray], np.ndarray], steps: int = 800) -> None:
    """32 alike requests; each step's lengths come from `trim` of the step before's accepted counts."""
    draw = np.random.default_rng(5)
    slots = np.arange(32)
    accepted = np.full(32, LENGTH)
    for _ in range(steps):
        verified = trim(accepted)
        accepted = accept(draw, np.tile(STATED, (32, 1)), verified)
        observe(slots, verified, accepted, 1)


TRIMS = {
    "full": lambda accepted: np.full_like(accepted, LENGTH),
    "adaptive": lambda accepted: np.minimum(accepted + 2, LENGTH),
    "short, seldom long": lambda accepted: np.where(accepted == 2, LENGTH, 2),
}


def calibrated(hazards: np.ndarray) -> bool:
    return bool((np.abs(hazards - STATED) < 0.05).all())


@pytest.mark.parametrize("trim", TRIMS.values(), ids=TRIMS.keys())
def test_hazards_converge_to_stated_ones(trim: Callable[[np.ndarray], np.ndarray]) -> None:
    """Estimated hazards reach the true ones, however verification was trimmed."""
    estimator = AcceptanceEstimator(LENGTH)
    for slot in range(32):
        estimator.open(slot, "")
    feed(estimator.observe, trim)
    assert calibrated(estimator.hazards())


@pytest.mark.parametrize("trim", TRIMS.values(), ids=TRIMS.keys())
def test_counting_censored_positions_fails_the_same_check(trim: Callable[[np.ndarray], np.ndarray]) -> None:
    """The check is able to fail: it catches an estimator that takes censoring for rejection."""
    control = CountsCensoredAsRejected()
    feed(control.observe, trim)
    assert not calibrated(control.hazards())


def test_testing_only_good_requests_deep_biases_less_than_a_plain_rate_would() -> None:
    """Part of the selection bias is taken out of what a new request is expected to do."""
    estimator = AcceptanceEstimator(4)
    draw = np.random.default_rng(1)
    rejection = np.where(np.arange(16) < 8, 0.2, 0.6)
    for slot in range(16):
        estimator.open(slot, "")
    for _ in range(800):
        verified = np.where(rejection < 0.5, 4, 1)
        accepted = accept(draw, np.tile((1 - rejection)[:, None], (1, 4)), verified)
        estimator.observe(np.arange(16), verified, accepted, 1)
    average, plain_rate = 0.6, 0.8
    removed = (plain_rate - estimator.hazards()[1:]) / (plain_rate - average)
    assert (removed > 0.25).all()
    assert (removed < 1.1).all()
    survivals = estimator.survivals(np.arange(16))
    assert survivals[:8, 0].min() > survivals[8:, 0].max()


def test_alike_requests_are_treated_alike() -> None:
    """Where requests do not differ, luck does not make them differ."""
    estimator = AcceptanceEstimator(LENGTH)
    for slot in range(32):
        estimator.open(slot, "")
    feed(estimator.observe, TRIMS["full"])
    assert np.ptp(estimator.frailty(np.arange(32))) < 0.35


def test_a_label_with_evidence_is_the_prior() -> None:
    """A new request starts as its class behaves; one without a label as all requests do."""
    estimator = AcceptanceEstimator(LENGTH)
    labels = ["code", "code", "chat", "chat"]
    for slot, label in enumerate(labels):
        estimator.open(slot, label)
    draw = np.random.default_rng(2)
    hazards = np.repeat([[0.9], [0.9], [0.2], [0.2]], LENGTH, axis=1)
    verified = np.full(4, LENGTH)
    for _ in range(200):
        estimator.observe(np.arange(4), verified, accept(draw, hazards, verified), 1)
    for slot, label in ((10, "code"), (11, "chat"), (12, "")):
        estimator.open(slot, label)
    code, chat, plain = estimator.survivals(np.array([10, 11, 12]))[:, 0]
    assert code > plain > chat
    assert plain == pytest.approx(estimator.prior_survivals()[0])


def test_a_reused_slot_knows_nothing_of_its_former_request() -> None:
    """Evidence belongs to the request, not to the slot."""
    estimator = AcceptanceEstimator(LENGTH)
    estimator.open(0, "a")
    for _ in range(30):
        estimator.observe(np.array([0]), np.array([5]), np.array([0]), 1)
    estimator.open(0, "")
    assert estimator.survivals(np.array([0]))[0] == pytest.approx(estimator.prior_survivals())
    assert not estimator.evidence(0).any()


def test_a_shift_of_traffic_is_followed_within_a_minute_of_steps() -> None:
    """At a single request a collapse of acceptance is noticed as drift, and believed."""
    estimator = AcceptanceEstimator(2)
    draw = np.random.default_rng(3)
    for request in range(60):
        estimator.open(0, "")
        rate = 0.9 if request < 40 else 0.3
        for _ in range(10):
            accepted = accept(draw, np.full((1, 2), rate), np.array([2]))
            estimator.observe(np.array([0]), np.array([2]), accepted, 1)
    assert estimator.pooled.drifts >= 1
    assert abs(estimator.hazards()[0] - 0.3) < 0.15


def test_untested_positions_follow_their_neighbour() -> None:
    """Beyond what was ever verified, the last tested hazard is the guess."""
    estimator = AcceptanceEstimator(LENGTH)
    estimator.open(0, "")
    for _ in range(300):
        estimator.observe(np.array([0]), np.array([2]), np.array([2]), 1)
    assert estimator.hazards()[2:] == pytest.approx(np.full(3, estimator.hazards()[1]))
    assert not estimator.pooled.evidence[2:].any()


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=3), max_size=40)
)
@settings(max_examples=100, deadline=None)
def test_survivals_are_probabilities_and_fall(stream: list[list[tuple[int, int]]]) -> None:
    """For every stream: survivals lie in 0..1 and never increase with the position."""
    estimator = AcceptanceEstimator(LENGTH)
    slots = np.arange(3)
    for slot in range(3):
        estimator.open(slot, "x" if slot else "")
    for step in stream:
        verified = np.array([pair[0] for pair in step])
        estimator.observe(slots, verified, np.minimum(verified, [pair[1] for pair in step]), 1)
    survivals = np.vstack((estimator.survivals(slots), estimator.prior_survivals()))
    assert ((survivals >= 0) & (survivals <= 1)).all()
    assert (np.diff(survivals, axis=1) <= 0).all()


def test_availability_is_learned_per_request() -> None:
    """A drafter that seldom finds a match is known for it; one that always proposes stays at 1."""
    estimator = AvailabilityEstimator()
    draw = np.random.default_rng(4)
    for slot in (0, 1):
        estimator.open(slot)
    for _ in range(300):
        estimator.observe(np.array([0, 1]), np.array([3, 3 * int(draw.random() < 0.2)]))
    always, seldom = estimator.of(np.array([0, 1]))
    assert always > 0.85
    assert seldom < 0.5
    assert estimator.pooled == pytest.approx(0.6, abs=0.1)
    certain = AvailabilityEstimator()
    certain.open(0)
    certain.observe(np.array([0]), np.array([2]))
    assert certain.pooled == 1.0
