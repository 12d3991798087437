"""A virtual engine: stated acceptance, stated costs, virtual time, honest censoring.

It behaves as an engine with a synchronous runner: the drafts that a step verifies were proposed in the
step before, a plan trims them when the step is scheduled, and a step's time holds its target pass and the
drafting of the next step's proposals. Requests that run while the drafter is skipped never speculate again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from turbospec.sidecar.core.controller import EngineController
from turbospec.sidecar.core.types import Capabilities, Decision, Observation, RequestInfo


@dataclass
class Costs:
    """Seconds; `curve` maps target tokens to seconds beyond `step`."""

    step: float = 0.020
    token: float = 0.0005
    draft_pass: float = 0.002
    draft_request: float = 0.00002
    context: float = 0.0
    curve: Callable[[float], float] | None = None
    idle_drafts: bool = True
    speed: float = 1.0

    def seconds(
        self, tokens: int, context: int, requests: int, length: int, drafter_skipped: bool = False
    ) -> float:
        passes = max(length, 1) if self.idle_drafts and not drafter_skipped else length
        target = self.curve(tokens) if self.curve else self.token * tokens
        drafts = passes * (self.draft_pass + self.draft_request * requests)
        return self.speed * (self.step + target + self.context * context + drafts)


@dataclass
class TrafficClass:
    """Requests with these hazards by position (the last one repeats) and tokens to produce."""

    hazards: tuple[float, ...] = (0.75,)
    output_tokens: int = 256
    label: str = ""
    availability: float = 1.0
    max_draft: int | None = None


@dataclass
class _Running:
    slot: int
    traffic: TrafficClass
    context: int
    left: int
    drafts: int = 0
    ready: bool = True


@dataclass
class VirtualEngine:
    """Runs `concurrency` requests at a time, for ever, with classes drawn from `traffic`."""

    capabilities: Capabilities
    traffic: list[TrafficClass]
    concurrency: int
    costs: Costs = field(default_factory=Costs)
    noise: float = 0.05
    outlier_rate: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        self._draw = np.random.default_rng(self.seed)
        self._running: list[_Running] = []
        self._opened: list[RequestInfo] = []
        self._sequence = 0
        self._requests = 0
        self.seconds = 0.0
        self.tokens = 0
        self.lengths: list[int] = []
        self.skipped: list[bool] = []
        self._refill()

    def step(self, plan: Decision) -> Observation:
        """Runs one step under `plan`."""
        lengths = dict(zip(plan.slots.tolist(), plan.verification_lengths.tolist(), strict=True))
        rows = []
        emitted = 0
        for request in self._running:
            wanted = lengths.get(request.slot, plan.default_verification_length)
            verified = min(wanted, request.drafts) if request.ready else 0
            accepted = self._accept(request.traffic, verified)
            rows.append((request.slot, request.drafts, verified, accepted, request.context))
            request.context += accepted + 1
            request.left -= accepted + 1
            emitted += accepted + 1
            has_drafts = self._draw.random() < request.traffic.availability
            request.drafts = plan.proposal_length if has_drafts else 0
            request.ready = request.ready and not plan.skip_drafter
        columns = np.array(rows, dtype=np.int64).T
        n = len(rows)
        clean = self.costs.seconds(
            n + int(columns[2].sum()),
            int(columns[4].sum()),
            n,
            plan.proposal_length,
            drafter_skipped=plan.skip_drafter,
        )
        # One-sided: most steps near the clean time, all above, some far above.
        duration = clean * (1.0 + abs(self._draw.normal(0.0, self.noise)))
        if self._draw.random() < self.outlier_rate:
            duration *= 3.0
        closed = tuple(r.slot for r in self._running if r.left <= 0)
        self._running = [r for r in self._running if r.left > 0]
        opened, self._opened = tuple(self._opened), []
        self._refill()
        self._sequence += 1
        self.seconds += duration
        self.tokens += emitted
        self.lengths.append(plan.proposal_length)
        self.skipped.append(plan.skip_drafter)
        unready = tuple(r.slot for r in self._running if not r.ready)
        return Observation(
            sequence=self._sequence,
            duration=duration,
            requests=n,
            slots=columns[0],
            proposed=columns[1],
            verified=columns[2],
            accepted=columns[3],
            context_tokens=columns[4],
            proposal_length=plan.proposal_length,
            emitted_tokens=emitted,
            opened=opened,
            closed_slots=closed,
            drafter_skipped=plan.skip_drafter,
            unready_slots=unready,
        )

    def run(self, controller: EngineController, steps: int) -> float:
        """Runs `steps` under `controller`; goodput of these steps in tokens/s."""
        tokens, seconds = self.tokens, self.seconds
        for _ in range(steps):
            controller.observe(self.step(controller.decide()))
        return (self.tokens - tokens) / (self.seconds - seconds)

    def _accept(self, traffic: TrafficClass, verified: int) -> int:
        hazards = traffic.hazards
        for j in range(verified):
            if self._draw.random() >= hazards[min(j, len(hazards) - 1)]:
                return j
        return verified

    def _refill(self) -> None:
        taken = {r.slot for r in self._running}
        free = (slot for slot in range(self.concurrency + len(taken) + 1) if slot not in taken)
        while len(self._running) < self.concurrency:
            traffic = self.traffic[int(self._draw.integers(len(self.traffic)))]
            slot = next(free)
            # Lengths are spread so that requests do not all end together.
            left = max(1, int(traffic.output_tokens * self._draw.uniform(0.5, 1.5)))
            self._running.append(_Running(slot, traffic, int(self._draw.integers(16, 512)), left))
            self._requests += 1
            self._opened.append(RequestInfo(slot, f"r{self._requests}", traffic.label, traffic.max_draft))


def capabilities(max_length: int = 6, **changes: object) -> Capabilities:
    """A draft model engine that can do everything."""
    settings: dict[str, object] = {
        "max_length": max_length,
        "static_length": max_length // 2,
        "candidate_lengths": tuple(range(max_length + 1)),
    }
    return Capabilities(**{**settings, **changes})  # type: ignore[arg-type]
