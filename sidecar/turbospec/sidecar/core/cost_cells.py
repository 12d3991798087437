"""What steps took, kind by kind: what a latency profile keeps of an engine's ordinary traffic.

The cost model forgets single steps; its coefficients mean something to this version of it only. Cells outlive
both: a controller that starts again learns from them what it would otherwise have to try.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from turbospec.sidecar.core.cost_features import StepShape
from turbospec.sidecar.core.types import CostCell

# Steps whose counts differ by less than a fifth are of one kind; context matters less to a step than tokens.
_COUNTS_PER_OCTAVE = 4
_CONTEXTS_PER_OCTAVE = 1
# More kinds than an engine's traffic usually visits. The one that was not seen for longest makes room.
MOST_CELLS = 1024
# The newest of a kind, so that a machine that has become slower is kept as it is now.
_NEWEST = 31
# A location needs some.
_LEAST_STEPS = 3

_Kind = tuple[int, int, int, int, bool, bool]


@dataclass(slots=True)
class _Steps:
    count: int = 0
    requests: int = 0
    tokens: int = 0
    context: int = 0
    newest: deque[float] = field(default_factory=lambda: deque(maxlen=_NEWEST))


class CostCells:
    """Kinds of undisturbed steps that one engine made, in bounded memory."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[_Kind, _Steps] = OrderedDict()

    def load(self, cells: Iterable[CostCell]) -> None:
        """Takes over what was kept of earlier steps; steps made from now on come on top of it."""
        for cell in cells:
            steps = self._steps(shape_of(cell), cell.target_tokens)
            steps.count += cell.steps
            steps.requests += cell.steps * cell.requests
            steps.tokens += cell.steps * cell.target_tokens
            steps.context += cell.steps * cell.context_tokens
            steps.newest.append(cell.seconds)

    def add(self, seconds: float, tokens: int, shape: StepShape) -> None:
        """One undisturbed step with `tokens` target tokens."""
        steps = self._steps(shape, tokens)
        steps.count += 1
        steps.requests += shape.requests
        steps.tokens += tokens
        steps.context += shape.context_tokens
        steps.newest.append(seconds)

    def cells(self) -> tuple[CostCell, ...]:
        """Those of which enough steps were seen: their mean counts, the median of their newest times."""
        found = []
        for (*_, length, ragged, skipped), steps in self._kinds.items():
            if steps.count < _LEAST_STEPS:
                continue
            seconds = median(steps.newest)
            requests = round(steps.requests / steps.count)
            found.append(
                CostCell(
                    requests=requests,
                    target_tokens=max(round(steps.tokens / steps.count), requests),
                    context_tokens=round(steps.context / steps.count),
                    proposal_length=length,
                    ragged=ragged,
                    drafter_skipped=skipped,
                    steps=steps.count,
                    seconds=seconds,
                    spread_seconds=median(abs(each - seconds) for each in steps.newest),
                )
            )
        return tuple(found)

    def _steps(self, shape: StepShape, tokens: int) -> _Steps:
        kind = (
            _bucket(shape.requests, _COUNTS_PER_OCTAVE),
            _bucket(tokens, _COUNTS_PER_OCTAVE),
            _bucket(shape.context_tokens, _CONTEXTS_PER_OCTAVE),
            shape.proposal_length,
            shape.ragged,
            shape.drafter_skipped,
        )
        steps = self._kinds.get(kind)
        if steps is None:
            if len(self._kinds) == MOST_CELLS:
                self._kinds.popitem(last=False)
            steps = self._kinds[kind] = _Steps()
        self._kinds.move_to_end(kind)
        return steps


def shape_of(cell: CostCell) -> StepShape:
    """All that the cost model knows of a cell but its target tokens."""
    return StepShape(
        cell.context_tokens,
        cell.requests,
        cell.proposal_length,
        cell.ragged,
        cell.drafter_skipped,
        cell.prompt_tokens,
    )


def _bucket(count: int, per_octave: int) -> int:
    return round(per_octave * math.log2(count)) if count else -1
