"""The optimum is exact, for any step time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from turbospec.sidecar.core.optimizer import Batch, Freedom, best, compare, uniform


@st.composite
def batches(draw: st.DrawFn, max_n: int = 3, max_k: int = 3) -> Batch:
    n, k = draw(st.integers(1, max_n)), draw(st.integers(1, max_k))
    # A coarse grid, so that ties, certain and impossible drafts are common.
    hazards = draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.5, 0.9, 1.0]), min_size=n * k, max_size=n * k))
    survivals = np.cumprod(np.array(hazards).reshape(n, k), axis=1)
    availability = draw(st.sampled_from([1.0, 0.5]))
    caps = draw(st.lists(st.integers(0, k), min_size=n, max_size=n))
    return Batch(survivals, np.full(n, availability), np.array(caps))


@st.composite
def costs(draw: st.DrawFn, tokens: int = 20, lengths: int = 4):
    """Any step time at all: a positive number for every (tokens, length, ragged), staircases included."""
    stairs = draw(st.lists(st.sampled_from([0.0, 0.0, 0.1, 2.0]), min_size=2 * tokens, max_size=2 * tokens))
    drafts = draw(st.lists(st.sampled_from([0.0, 0.1, 1.0]), min_size=lengths, max_size=lengths))
    penalty = draw(st.sampled_from([0.0, 0.5]))
    table = 1.0 + np.cumsum(stairs)

    def cost(count: np.ndarray, lengths: tuple[int, ...], ragged: bool) -> np.ndarray:
        # Availability 0.5 makes half tokens: the table has an entry for each half.
        steps = table[np.rint(2 * count).astype(int) % len(table)]
        return steps + np.array([[drafts[k]] for k in lengths]) + penalty * ragged

    return cost


def value(batch: Batch, v: tuple[int, ...], k: int, cost, ragged: bool) -> float:
    n = len(v)
    gains = sum(batch.availability[i] * batch.survivals[i, : v[i]].sum() for i in range(n))
    tokens = n + float(batch.availability @ np.array(v))
    return float((n + gains) / cost(np.array([[tokens]]), (k,), ragged)[0, 0])


@given(batches(), costs())
@settings(max_examples=100, deadline=None)
def test_per_request_lengths_equal_brute_force(batch: Batch, cost) -> None:
    """No assignment of verification lengths, under any step time, beats the optimiser's."""
    width = batch.survivals.shape[1]
    options = compare(batch, Freedom(tuple(range(width + 1))), cost)
    for option in options:
        k = option.proposal_length
        ranges = [range(min(k, int(cap)) + 1) for cap in batch.caps]
        brute = max(value(batch, v, k, cost, False) for v in itertools.product(*ranges))
        assert option.goodput == pytest.approx(brute, rel=1e-12)
        assert value(batch, tuple(option.verification), k, cost, False) == pytest.approx(option.goodput)
        assert (option.verification <= np.minimum(batch.caps, k)).all()


@given(batches(), costs())
@settings(max_examples=100, deadline=None)
def test_two_cost_surfaces_equal_brute_force(batch: Batch, cost) -> None:
    """Where ragged steps cost more, the best uniform and the best ragged step are both considered."""
    width = batch.survivals.shape[1]
    for option in compare(batch, Freedom(tuple(range(width + 1)), ragged_costs=True), cost):
        k = option.proposal_length
        ranges = [range(min(k, int(cap)) + 1) for cap in batch.caps]
        ragged = max(value(batch, v, k, cost, True) for v in itertools.product(*ranges))
        v = tuple(np.minimum(batch.caps, k))
        even = value(batch, v, k, cost, len(set(v)) > 1)
        assert option.goodput == pytest.approx(max(ragged, even), rel=1e-12)


@given(batches(), costs())
@settings(max_examples=100, deadline=None)
def test_one_length_for_all_equals_brute_force(batch: Batch, cost) -> None:
    """Where requests cannot differ, all verify the same, within the smallest cap."""
    width = batch.survivals.shape[1]
    smallest = int(batch.caps.min())
    for option in compare(batch, Freedom(tuple(range(width + 1)), per_request=False), cost):
        assert len(set(option.verification.tolist())) == 1
        v = (min(option.proposal_length, smallest),) * batch.caps.size
        assert option.goodput == pytest.approx(value(batch, v, option.proposal_length, cost, False))
    only = compare(batch, Freedom((width,), per_request=False), cost)[0]
    brute = max(value(batch, (v,) * batch.caps.size, width, cost, False) for v in range(smallest + 1))
    assert only.goodput == pytest.approx(brute)


@given(batches(max_n=6, max_k=6), costs(tokens=60, lengths=7))
@settings(max_examples=100, deadline=None)
def test_sets_are_prefixes_at_one_price(batch: Batch, cost) -> None:
    """What is verified is every draft above the floor, and none below it."""
    width = batch.survivals.shape[1]
    for option in compare(batch, Freedom(tuple(range(width + 1))), cost):
        for row, v, cap in zip(batch.survivals, option.verification, batch.caps, strict=True):
            reachable = row[: min(int(cap), option.proposal_length)]
            assert (reachable[:v] >= option.floor).all()
            assert (reachable[v:] <= option.floor).all()


def test_ties_go_to_fewer_tokens() -> None:
    """Drafts that gain nothing are not verified, and a longer proposal that gains nothing is not made."""
    batch = Batch(np.zeros((2, 3)), np.ones(2), np.full(2, 3))
    top = best(compare(batch, Freedom((0, 1, 2, 3)), lambda tokens, _k, _ragged: np.ones_like(tokens)))
    assert top.proposal_length == 0
    assert not top.verification.any()


def test_a_staircase_is_filled_to_its_edge() -> None:
    """Inside a captured size further tokens are free, so they are used, however unlikely."""
    batch = Batch(np.tile([0.3, 0.1, 0.01], (2, 1)), np.ones(2), np.full(2, 3))
    top = best(compare(batch, Freedom((0, 3)), lambda tokens, _k, _ragged: np.where(tokens <= 7, 1.0, 9.0)))
    assert top.verification.sum() == 5


def test_uniform_respects_caps() -> None:
    """A look at one length keeps each caller's cap."""
    batch = Batch(np.full((3, 4), 0.5), np.ones(3), np.array([0, 2, 4]))
    option = uniform(batch, 3, 3, lambda tokens, _k, _ragged: tokens)
    assert option.verification.tolist() == [0, 2, 3]
