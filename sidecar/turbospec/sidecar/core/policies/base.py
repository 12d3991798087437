"""The contract between the controller and a policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from turbospec.sidecar.core.cost_features import StepShape
from turbospec.sidecar.core.latency import LatencyModel
from turbospec.sidecar.core.optimizer import Batch
from turbospec.sidecar.core.types import Candidate, Capabilities, FloatArray, IntArray, Observation, Reason


@dataclass(frozen=True, slots=True)
class View:
    """What a policy decides from.

    `batch` holds the requests that decode, at least one row; where none do, a new one stands in.
    `proposals` are the lengths that engine, callers and operator allow, ascending and never empty.
    `context_tokens` is the total over the batch.
    """

    capabilities: Capabilities
    batch: Batch
    proposals: tuple[int, ...]
    context_tokens: int
    latency: LatencyModel

    @property
    def requests(self) -> int:
        """Rows of the batch."""
        return int(self.batch.caps.size)

    def cost(self, tokens: FloatArray, k: int, ragged: bool) -> FloatArray:
        """Predicted seconds of a step with these requests; an `optimizer.StepCost`."""
        shape = StepShape(self.context_tokens, self.requests, k, ragged)
        return self.latency.step_seconds(tokens, shape)


@dataclass(frozen=True, slots=True)
class Lengths:
    """What a policy wants; the controller clamps it to what is allowed.

    `verification` has shape (n,), parallel to the view's batch. Requests outside the batch verify the
    drafts whose survival is at least `floor`.
    """

    proposal_length: int
    verification: IntArray
    floor: float
    reason: Reason
    explanation: str
    predicted_goodput: float | None = None
    predicted_step_seconds: float | None = None
    candidates: tuple[Candidate, ...] = field(default=())


class Policy(Protocol):
    """Chooses lengths. May keep state of its own; draws no time and no unseeded randomness."""

    @property
    def spec(self) -> str:
        """The specification that makes this policy."""
        ...

    def observe(self, observation: Observation) -> None:
        """One valid observation."""
        ...

    def decide(self, view: View) -> Lengths:
        """Lengths for the next step."""
        ...
