"""The lengths with the highest expected goodput for one step, exactly.

For a fixed proposal length k, the best c extra tokens are the c largest survivals; rows are non-increasing,
so they are prefixes. Sort once, cumulate, divide by the step time at every count, take the largest. This
assumes nothing about the step time: it may be a staircase.

A request whose drafter proposes only with probability m gains m*s for m tokens on average; goodput is then
expected tokens over the time of the expected token count. That is exact when all m are equal (survival
per token is then the order of value); else it is the greedy solution of a knapsack.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple, Protocol

import numpy as np
from turbospec.sidecar.core.types import FloatArray, IntArray

# Entries of one comparison's arrays: enough for 256 requests with 6 drafts, and little memory for more.
_ENTRIES = 16_384


class StepCost(Protocol):
    """Seconds of steps, shape (P, M), with `tokens` target tokens, shape (P, M), at P proposal `lengths`."""

    def __call__(self, tokens: FloatArray, lengths: tuple[int, ...], ragged: bool, /) -> FloatArray: ...


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


class Option(NamedTuple):
    """The best lengths for one proposal length.

    `rows` and `columns` are drafts in the order of their worth: of which request, shape (m,), and which of
    its drafts, from 0; those within the proposal length among the first `head` are to be verified, `verified`
    in all. `floor` is the smallest survival among them: what a draft of any further request must
    reach to be worth as much. It is infinite where there are none. `goodput` is in expected tokens/s.
    """

    proposal_length: int
    requests: int
    rows: IntArray
    columns: IntArray
    head: int
    verified: int
    expected_tokens: float
    step_seconds: float
    goodput: float
    floor: float

    @property
    def verification(self) -> IntArray:
        """Verification length of each request, shape (n,). Made when asked for: most options lose."""
        rows = self.rows[: self.head][self.columns[: self.head] < self.proposal_length]
        return np.bincount(rows, minlength=self.requests)


def compare(batch: Batch, freedom: Freedom, cost: StepCost) -> list[Option]:
    """The best option for each proposal length, ascending. Ties go to fewer tokens."""
    if freedom.per_request and not freedom.ragged_costs:
        return _ranked(batch, freedom, cost)
    # One length for all cannot exceed the smallest cap.
    caps = batch.caps if freedom.per_request else np.full_like(batch.caps, batch.caps.min())
    found = []
    for k in freedom.proposals:
        lengths = range(k + 1) if len(freedom.proposals) == 1 else (k,)
        found.append(best([_uniform(batch, k, np.minimum(v, caps), cost) for v in lengths]))
    if freedom.per_request:
        found = [best([*pair]) for pair in zip(found, _ranked(batch, freedom, cost), strict=True)]
    return found


def best(options: list[Option]) -> Option:
    """The option with the highest goodput; of equal ones the first, so the shortest."""
    return max(options, key=attrgetter("goodput"))


def uniform(batch: Batch, k: int, v: int, cost: StepCost) -> Option:
    """The option that verifies `v` of `k` proposed drafts of every request, as far as its cap allows."""
    return _uniform(batch, k, np.minimum(v, batch.caps), cost)


def _uniform(batch: Batch, k: int, verification: IntArray, cost: StepCost) -> Option:
    n, width = batch.survivals.shape
    admitted = np.arange(1, width + 1) <= verification[:, None]
    gains = (batch.survivals * admitted).sum(axis=1)
    tokens = n + float(batch.availability @ verification)
    ragged = bool(verification.min() != verification.max())
    rows, columns = admitted.nonzero()
    expected = n + float(batch.availability @ gains)
    seconds = float(cost(np.array([[tokens]]), (k,), ragged)[0, 0])
    return Option(
        proposal_length=k,
        requests=n,
        rows=rows,
        columns=columns,
        head=rows.size,
        verified=rows.size,
        expected_tokens=expected,
        step_seconds=seconds,
        goodput=expected / seconds,
        floor=0.0 if rows.size else np.inf,
    )


def _ranked(batch: Batch, freedom: Freedom, cost: StepCost) -> list[Option]:
    ranked = _Ranked(batch)
    at_once = max(_ENTRIES // (ranked.size + 1), 1)
    options: list[Option] = []
    for first in range(0, len(freedom.proposals), at_once):
        options += ranked.best(freedom.proposals[first : first + at_once], freedom.ragged_costs, cost)
    return options


class _Ranked:
    """All drafts of a batch, by falling survival; within a request in the order of positions."""

    def __init__(self, batch: Batch) -> None:
        self._n, width = batch.survivals.shape
        survivals = batch.survivals.ravel()
        # Stable, so that equal survivals of one request stay in order and any head is prefix-closed.
        order = (-survivals).argsort(kind="stable")
        rows, columns = np.divmod(order, width)
        if np.count_nonzero(batch.caps < width):
            allowed = columns < batch.caps[rows]
            order, rows, columns = order[allowed], rows[allowed], columns[allowed]
        self._survivals, self._rows, self._columns = survivals[order], rows, columns
        # What each draft adds to the tokens that the target computes, and to those that users get.
        self._worth = np.empty((2, order.size))
        self._worth[0] = batch.availability[rows]
        self._worth[1] = self._survivals * self._worth[0]

    @property
    def size(self) -> int:
        """Drafts."""
        return int(self._rows.size)

    def best(self, lengths: tuple[int, ...], ragged_costs: bool, cost: StepCost) -> Iterator[Option]:
        """The best option for each of some proposal lengths: one row for each, all drafts in each row.

        A draft beyond a row's length adds nothing there, so that it is never a new maximum.
        """
        within = self._columns < np.array(lengths)[:, None]
        # Entry c: with the first c drafts.
        totals = np.empty((2, len(lengths), self.size + 1))
        totals[:, :, 0] = 0.0
        (within * self._worth[:, None]).cumsum(axis=2, out=totals[:, :, 1:])
        totals += self._n
        tokens, expected = totals
        seconds = cost(tokens, lengths, ragged_costs)
        goodputs = expected / seconds
        heads = goodputs.argmax(axis=1).tolist()
        for row, (length, head) in enumerate(zip(lengths, heads, strict=True)):
            yield Option(
                proposal_length=length,
                requests=self._n,
                rows=self._rows,
                columns=self._columns,
                head=head,
                verified=int(np.count_nonzero(within[row, :head])),
                expected_tokens=expected.item(row, head),
                step_seconds=seconds.item(row, head),
                goodput=goodputs.item(row, head),
                floor=float(self._survivals[head - 1]) if head else np.inf,
            )
