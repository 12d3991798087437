"""Whether steps that compute prompts beside decoding are all there is to learn from, and with what to start.

What such a step takes says little of decoding alone, so the cost model of decode steps leaves them out, as
long as there are others. A busy engine that computes long prompts in parts may not make a single other step
for hours. Then a cost model of its own learns from mixed steps, with the prompts' tokens as one feature more.

It is of its own because the costs differ: beside prompts a target pass has no idle compute left that drafts
could use. Its predictions leave the prompts themselves out, as they come with tokens that users wait for,
whatever lengths these are decoded by.
"""

from __future__ import annotations

from collections import deque

from turbospec.sidecar.core.latency import LatencyModel
from turbospec.sidecar.core.types import Capabilities, CostCell

# Newest steps that are looked at; as few as this many say nothing yet. A burst of prompts is over sooner.
WINDOW_STEPS = 32
LEAST_STEPS = 16
# Shares of steps without prompts. Below the first, waiting for them would take too long to learn anything;
# above the second there are enough.
RARE = 1 / 8
COMMON = 1 / 4


class MixedSteps:
    """Watches for how many steps it is that compute prompts too."""

    def __init__(self) -> None:
        self.constant = False
        """Whether nearly all steps do."""
        self._alone: deque[bool] = deque(maxlen=WINDOW_STEPS)

    def observe(self, *, mixed: bool) -> None:
        """A step that decoded, beside prompts or alone."""
        self._alone.append(not mixed)
        if len(self._alone) >= LEAST_STEPS:
            share = sum(self._alone) / len(self._alone)
            self.constant = share < (COMMON if self.constant else RARE)


class MixedStart:
    """What the cost model of mixed steps starts from."""

    def __init__(self) -> None:
        self._cells: tuple[CostCell, ...] = ()
        self._same_engine = True

    def keep(self, cells: tuple[CostCell, ...], *, same_engine: bool) -> None:
        """Mixed steps that were measured before, of an engine like this one or of a similar one."""
        self._cells, self._same_engine = cells, same_engine

    def make_model(self, engine: Capabilities, decode: tuple[CostCell, ...]) -> LatencyModel:
        """A model that knows of mixed steps what was measured before. Where nothing was, it starts from the
        engine's `decode` steps: these are of the right size at least."""
        model = LatencyModel(engine, mixed=True)
        if self._cells:
            model.seed(self._cells, same_engine=self._same_engine)
        elif decode:
            model.seed(decode, same_engine=True)
        return model
