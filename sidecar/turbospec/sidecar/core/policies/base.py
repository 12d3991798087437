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

    `batch` holds the requests that decode, at least one row; where none do, a new one stands in. Its caps
    are 0 for requests that cannot speculate because the drafter was skipped while they ran; `everyone` is
    the same batch as if none had missed it, None where none has. `shadow`: the lengths will not be
    applied, so there is nothing to be learned from trying any. `drafter_prefill_seconds`: by how much the
    drafter's part of the prompts delays each token that users get.
    `proposals` are the lengths that engine, callers and operator allow, ascending and never empty.
    `context_tokens` is the total over the batch.
    """

    capabilities: Capabilities
    batch: Batch
    proposals: tuple[int, ...]
    context_tokens: int
    latency: LatencyModel
    everyone: Batch | None = None
    shadow: bool = False
    drafter_prefill_seconds: float = 0.0

    @property
    def requests(self) -> int:
        """Rows of the batch."""
        return int(self.batch.caps.size)

    def cost(self, tokens: FloatArray, lengths: tuple[int, ...], ragged: bool) -> FloatArray:
        """Predicted seconds of steps with these requests; an `optimizer.StepCost`."""
        shape = StepShape(self.context_tokens, self.requests, lengths[0], ragged)
        return self.latency.steps_seconds(tokens, shape, lengths)

    def off_goodput(self) -> float:
        """Predicted tokens/s of steps without the drafter; 0 where it always runs or nothing is known."""
        if not (self.capabilities.deep_off and self.latency.fitted):
            return 0.0
        shape = StepShape(self.context_tokens, self.requests, 0, drafter_skipped=True)
        return self.requests / self.latency.step_seconds(float(self.requests), shape)


@dataclass(frozen=True, slots=True)
class Lengths:
    """What a policy wants; the controller clamps it to what is allowed.

    `verification` has shape (n,), parallel to the view's batch. Requests outside the batch verify the
    drafts whose survival is at least `floor`. `skip_drafter` asks for more than length 0.
    """

    proposal_length: int
    verification: IntArray
    floor: float
    reason: Reason
    explanation: str
    predicted_goodput: float | None = None
    predicted_step_seconds: float | None = None
    candidates: tuple[Candidate, ...] = field(default=())
    skip_drafter: bool = False


class Policy(Protocol):
    """Chooses lengths. May keep state of its own; draws no time and no unseeded randomness."""

    @property
    def spec(self) -> str:
        """The specification that makes this policy."""
        ...

    def observe(self, observation: Observation, *, timed: bool) -> None:
        """One valid observation. `timed`: the cost model learned from its duration."""
        ...

    def decide(self, view: View) -> Lengths:
        """Lengths for the next step."""
        ...
