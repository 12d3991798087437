"""The lengths with the highest expected goodput for one step, exactly.

For a fixed proposal length k, the best c extra tokens are the c largest survivals; rows are non-increasing,
so they are prefixes. Sort once, cumulate, divide by the step time at every count, take the largest. This
assumes nothing about the step time: it may be a staircase.

A request whose drafter proposes only with probability m gains m*s for m tokens on average; goodput is then
expected tokens over the time of the expected token count. That is exact when all m are equal (survival
per token is then the order of value); else it is the greedy solution of a knapsack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from turbospec.sidecar.core.types import FloatArray, IntArray


class StepCost(Protocol):
    """Seconds of a step, for each entry of `tokens` (target tokens), at proposal length `k`."""

    def __call__(self, tokens: FloatArray, k: int, ragged: bool, /) -> FloatArray: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step holds: survivals (n, K), availability (n,) in 0..1, caps (n,) in 0..K; n >= 1."""

    survivals: FloatArray
    availability: FloatArray
    caps: IntArray


@dataclass(frozen=True, slots=True)
class Freedom:
    """What may be chosen.

    `proposals`: ascending proposal lengths. `per_request`: each request its own verification length,
    else one for all, equal to the proposal length, or any up to it where there is but one proposal
    length. `ragged_costs`: a step whose requests differ in width is on a cost surface of its own.
    """

    proposals: tuple[int, ...]
    per_request: bool = True
    ragged_costs: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """The best lengths for one proposal length.

    `admitted`: the row of each draft to verify, shape (m,). `floor` is the smallest survival that was
    admitted: what a draft of any further request must reach to be worth as much. It is infinite where
    nothing was admitted.
    """

    proposal_length: int
    requests: int
    admitted: IntArray
    expected_tokens: float
    step_seconds: float
    floor: float

    @property
    def verification(self) -> IntArray:
        """Verification length of each request, shape (n,). Made when asked for: most options lose."""
        return np.bincount(self.admitted, minlength=self.requests)

    @property
    def goodput(self) -> float:
        """Expected tokens per second."""
        return self.expected_tokens / self.step_seconds


def compare(batch: Batch, freedom: Freedom, cost: StepCost) -> list[Option]:
    """The best option for each proposal length, ascending. Ties go to fewer tokens."""
    ranked = _Ranked(batch) if freedom.per_request else None
    options = []
    for k in freedom.proposals:
        found: list[Option] = []
        if ranked is None or freedom.ragged_costs:
            lengths = range(k + 1) if len(freedom.proposals) == 1 else (k,)
            # One length for all cannot exceed the smallest cap.
            caps = batch.caps if freedom.per_request else np.full_like(batch.caps, batch.caps.min())
            found += [_uniform(batch, k, np.minimum(v, caps), cost) for v in lengths]
        if ranked is not None:
            found.append(ranked.best(k, freedom.ragged_costs, cost))
        options.append(best(found))
    return options


def best(options: list[Option]) -> Option:
    """The option with the highest goodput; of equal ones the first, so the shortest."""
    return max(options, key=lambda option: option.goodput)


def uniform(batch: Batch, k: int, v: int, cost: StepCost) -> Option:
    """The option that verifies `v` of `k` proposed drafts of every request, as far as its cap allows."""
    return _uniform(batch, k, np.minimum(v, batch.caps), cost)


def _uniform(batch: Batch, k: int, verification: IntArray, cost: StepCost) -> Option:
    n, width = batch.survivals.shape
    admitted = np.arange(1, width + 1) <= verification[:, None]
    gains = (batch.survivals * admitted).sum(axis=1)
    tokens = n + float(batch.availability @ verification)
    ragged = bool(verification.min() != verification.max())
    return Option(
        proposal_length=k,
        requests=n,
        admitted=np.nonzero(admitted)[0],
        expected_tokens=n + float(batch.availability @ gains),
        step_seconds=float(cost(np.array([tokens]), k, ragged)[0]),
        floor=0.0 if verification.any() else np.inf,
    )


class _Ranked:
    """All drafts of a batch, by falling survival; within a request in the order of positions."""

    def __init__(self, batch: Batch) -> None:
        self._n, width = batch.survivals.shape
        survivals = batch.survivals.ravel()
        # Stable, so that equal survivals of one request stay in order and any head is prefix-closed.
        order = (-survivals).argsort(kind="stable")
        rows, columns = np.divmod(order, width)
        allowed = columns < batch.caps[rows]
        if not allowed.all():
            order, rows, columns = order[allowed], rows[allowed], columns[allowed]
        self._survivals, self._rows, self._columns = survivals[order], rows, columns
        # What each draft adds to the tokens that the target computes, and to those that users get.
        self._tokens = batch.availability[rows]
        self._gains = self._survivals * self._tokens

    def best(self, k: int, ragged_costs: bool, cost: StepCost) -> Option:
        within = (self._columns < k).nonzero()[0]
        # Entry c: with the first c of them.
        tokens, expected = np.full((2, within.size + 1), float(self._n))
        tokens[1:] += self._tokens[within].cumsum()
        expected[1:] += self._gains[within].cumsum()
        seconds = cost(tokens, k, ragged_costs)
        count = int((expected / seconds).argmax())
        head = within[:count]
        return Option(
            proposal_length=k,
            requests=self._n,
            admitted=self._rows[head],
            expected_tokens=float(expected[count]),
            step_seconds=float(seconds[count]),
            floor=float(self._survivals[head[-1]]) if count else np.inf,
        )
