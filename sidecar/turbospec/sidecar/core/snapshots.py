"""What a controller shows of itself: read-only copies, for introspection."""

from __future__ import annotations

from dataclasses import dataclass

from turbospec.sidecar.core.types import FloatArray, RequestInfo


@dataclass(frozen=True, slots=True)
class AcceptanceSnapshot:
    """Acceptance by position; arrays of shape (max_length,), entry j-1 for draft position j.

    `hazards`: P(draft j accepted | drafts before it accepted); `survivals`: their running product;
    `evidence`: effective number of tests; `availability`: P(any draft proposed | asked).
    `request_variance` is the variance of rejection rates between requests, relative to the mean;
    `drifts` counts the shifts of traffic that were noticed.
    """

    hazards: FloatArray
    survivals: FloatArray
    evidence: FloatArray
    availability: float
    request_variance: float
    drifts: int


@dataclass(frozen=True, slots=True)
class RequestSnapshot:
    """One live request; `verification_length` None: the newest decision does not name it."""

    info: RequestInfo
    hazards: FloatArray
    survivals: FloatArray
    evidence: FloatArray
    availability: float
    verified: int
    accepted: int
    verification_length: int | None


@dataclass(frozen=True, slots=True)
class LatencySnapshot:
    """The cost model: step time is the sum of seconds per unit times feature.

    `slowdown_ratio`: how many times as long steps take now as when their costs were learned.
    """

    terms: tuple[tuple[str, float], ...]
    evidence_steps: float
    model_error: float | None
    fitted: bool
    slowdown_ratio: float


@dataclass(frozen=True, slots=True)
class GoodputSnapshot:
    """Tokens per second over the same recent undisturbed steps; None: not known.

    `realised`: what users received; `predicted`: what the plans had promised; `idle`: what the cost
    model expects without drafts.
    """

    realised: float | None
    predicted: float | None
    idle: float | None

    @property
    def estimated_gain(self) -> float | None:
        """What plans promise over what came of the same steps; in shadow mode, what they would gain."""
        if self.predicted is None or not self.realised:
            return None
        return self.predicted / self.realised
