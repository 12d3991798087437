"""Scores of `turbospec bench e2e`: computed by hand, and fair to the policy that is scored."""

from __future__ import annotations

import math

import numpy as np
import pytest
from turbospec.engines.bench.e2e.scoring import CROSS_FITTED, Cell, Scores, log_over_best
from turbospec.engines.bench.e2e.targets import targets

_CELL: Cell = ("high", 1)
_EVERYTHING = slice(None)


def _scores(**speeds: list[float]) -> Scores:
    """One cell; all policies but goodput may be the best."""
    return Scores({_CELL: speeds}, [name for name in speeds if name != "goodput"])


def test_the_best_of_one_half_is_compared_on_the_other() -> None:
    """By the odd repeats b is best, worth 1 on the even ones; by the even ones a, worth 2 on the odd."""
    scores = _scores(a=[2, 3, 2, 3], b=[4, 1, 4, 1], goodput=[4, 3, 4, 3])
    assert scores.chosen(_CELL) == ("b", "a")
    # goodput: 3 / 1 on the even repeats, 4 / 2 on the odd ones.
    assert scores.over_best("goodput").value == pytest.approx(math.sqrt(3 * 2))
    assert scores.over_best("a").value == pytest.approx(math.sqrt(3 / 1 * 2 / 2))
    assert scores.over_best("b").value == pytest.approx(math.sqrt(1 / 1 * 4 / 2))


def test_means_are_geometric_over_repeats_and_cells() -> None:
    """Halving and doubling cancel out, between repeats as between cells."""
    scores = Scores(
        {
            ("high", 1): {"none": [1, 1, 1, 1], "goodput": [2, 0.5, 2, 0.5]},
            ("low", 1): {"none": [1, 1, 1, 1], "goodput": [4, 4, 4, 4]},
        },
        ["none"],
    )
    assert scores.over("goodput", "none", [("high", 1)]).value == pytest.approx(1)
    assert scores.over("goodput", "none").value == pytest.approx(2)
    assert scores.over_best("goodput").value == pytest.approx(2)


def test_a_common_disturbance_of_a_repeat_cancels() -> None:
    """A repeat in which the machine was slow for all changes no ratio, nor its interval."""
    slow = [1.0, 0.25, 1.0, 0.5, 1.0, 1.0]
    scores = _scores(none=[10 * x for x in slow], goodput=[12 * x for x in slow])
    estimate = scores.over_best("goodput")
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((1.2, 1.2, 1.2))


def _equal_policies(seed: int) -> np.ndarray:
    """Logarithms of speeds, shape (8, 2000, 6): eight policies, all as fast, 5% noise, 2000 cells."""
    return np.random.default_rng(seed).normal(0.0, 0.05, (8, 2000, 6))


def test_choosing_among_equals_costs_nothing() -> None:
    """Where all are as fast, the score is 1, however many candidates there are to choose from."""
    ratios = log_over_best(_equal_policies(1), 0, np.arange(1, 8), CROSS_FITTED)
    assert np.exp(ratios.mean()) == pytest.approx(1.0, abs=0.003)


def test_without_cross_fitting_noise_looks_like_a_better_policy() -> None:
    """The negative control: chosen and compared on the same repeats, the best of equals seems 2% faster."""
    ratios = log_over_best(_equal_policies(1), 0, np.arange(1, 8), [(_EVERYTHING, _EVERYTHING)])
    assert np.exp(ratios.mean()) < 0.98


def test_intervals_hold_what_they_promise() -> None:
    """Over eight cells of six noisy repeats, about 90% of the intervals contain the truth."""
    draw = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        speeds = {
            ("high", n): {
                "none": np.exp(draw.normal(0.0, 0.05, 6)).tolist(),
                "goodput": np.exp(draw.normal(0.1, 0.05, 6)).tolist(),
            }
            for n in range(8)
        }
        estimate = Scores(speeds, ["none"]).over_best("goodput")
        held += estimate.low <= math.exp(0.1) <= estimate.high
    # 90% of 200, with three standard deviations of that count, 4.2, to either side.
    assert 167 <= held <= 193


@pytest.mark.parametrize(
    "speeds",
    [
        {"none": [1.0, 1.0, 1.0], "goodput": [1.0, 1.0, 1.0]},
        {"none": [1.0, 1.0, 1.0, 1.0], "goodput": [1.0, 1.0, 1.0]},
        {"none": [1.0, 1.0, 1.0, 0.0], "goodput": [1.0, 1.0, 1.0, 1.0]},
    ],
)
def test_what_cannot_be_scored_is_refused(speeds: dict[str, list[float]]) -> None:
    """Too few repeats for two halves with noise, missing ones, and windows without a token."""
    with pytest.raises(ValueError, match="positive speeds, four or more"):
        _scores(**speeds)


def _with_goodput(**by_concurrency: float) -> Scores:
    """`none` at 1.0 everywhere and static:K at 1 + K / 10, so static:6, at 1.6, is the best."""
    fixed = {"none": [1.0] * 4} | {f"static:{k}": [1 + k / 10] * 4 for k in range(1, 7)}
    return Scores(
        {("high", n): {**fixed, "goodput": [speed] * 4} for n, speed in enumerate(by_concurrency.values())},
        list(fixed),
    )


def test_targets_are_judged_by_their_cells() -> None:
    """0.99 and 0.93 of the best are 0.96 on average: too little, though no single cell is too slow."""
    overall, of_best, of_none, of_static = targets(_with_goodput(a=1.6 * 0.99, b=1.6 * 0.931))
    assert overall.estimate.value == pytest.approx(math.sqrt(0.99 * 0.931))
    assert not overall.met
    assert of_best.estimate.value == pytest.approx(0.931)
    assert of_best.met
    assert "high at 1" in of_best.name
    assert of_none.estimate.value == pytest.approx(1.6 * 0.931)
    assert of_none.met
    assert "static:6" in of_static.name
    assert not of_static.met


def test_equalling_the_best_single_length_is_not_exceeding_it() -> None:
    """The last target is to be above it."""
    *others, of_static = targets(_with_goodput(a=1.6))
    assert all(target.met for target in others)
    assert not of_static.met
    assert targets(_with_goodput(a=1.7))[-1].met
