"""The world: requests that come, decode and go, step by step in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from support.scripted.costs import Shape
from support.scripted.machine import Machine
from support.scripted.traffic import Request, TrafficClass
from turbospec.sidecar.core.types import Capabilities, Disturbance, RequestInfo

PROMPT_TOKENS = (16, 512)


@dataclass(frozen=True, slots=True)
class Plan:
    """The lengths that a step runs under. `verification_length` gives each request's."""

    proposal_length: int
    verification_length: Callable[[RequestInfo], int]
    skip_drafter: bool = False


def uniform_plan(length: int) -> Plan:
    """The same length for everything."""
    return Plan(length, lambda _: length)


@dataclass(frozen=True, slots=True)
class Step:
    """What happened in a step. The lists are parallel: one entry for each request that decoded.

    `entered` came before the step, `left` went with it; `unready` are live after it and cannot speculate.
    `seconds` is what a clock would have shown, `stated_seconds` what the costs say without noise.
    """

    number: int
    shape: Shape
    seconds: float
    stated_seconds: float
    requests: list[RequestInfo]
    proposed: list[int]
    verified: list[int]
    accepted: list[int]
    context_tokens: list[int]
    emitted_tokens: int
    disturbances: frozenset[Disturbance]
    entered: tuple[RequestInfo, ...]
    left: tuple[RequestInfo, ...]
    unready: tuple[RequestInfo, ...]


class World:
    """Runs `concurrency` requests at a time, for ever, with classes drawn from `traffic`.

    As in an engine, the drafts that a step verifies were proposed in the step before, a plan trims them when
    the step is scheduled, and a step's time holds its target pass and the drafting of the next step's
    proposals. Requests that run while the drafter is skipped never speculate again. With `prefill` a request
    enters with its prompt to be computed, whole, in one step; without, elsewhere, as with separate prefill
    engines. The same seed and the same plans give the same steps, whatever the machine.
    """

    def __init__(
        self,
        capabilities: Capabilities,
        traffic: list[TrafficClass],
        concurrency: int,
        machine: Machine | None = None,
        *,
        prefill: bool = False,
        seed: int = 0,
    ) -> None:
        self.capabilities = capabilities
        self.traffic = traffic
        self.concurrency = concurrency
        self.machine = machine or Machine()
        self.steps = 0
        self._prefill = prefill
        self._every_step = 0
        self._draw = np.random.default_rng(seed)
        self._live: list[Request] = []
        self._entered: list[RequestInfo] = []
        self._requests = 0
        self._refill()

    def compute_prompts(self, every_step: int) -> None:
        """From now on every step also computes so many tokens of prompts that are no request's yet."""
        self._every_step = every_step

    @property
    def live(self) -> tuple[RequestInfo, ...]:
        """Requests that are in the engine now."""
        return tuple(request.info for request in self._live)

    def step(self, plan: Plan) -> Step:
        """Runs one step under `plan`. Raises ValueError for one that the engine cannot follow."""
        self._check(plan)
        self.steps += 1
        entered, self._entered = tuple(self._entered), []
        requests: list[RequestInfo] = []
        proposed: list[int] = []
        verified: list[int] = []
        accepted: list[int] = []
        context_tokens: list[int] = []
        emitted, prefill_tokens = 0, self._every_step
        for request in self._live:
            tokens = 1
            if request.prompted:
                v = request.verifiable(plan.verification_length(request.info))
                a = request.traffic.accept(v, self._draw)
                requests.append(request.info)
                proposed.append(request.drafts)
                verified.append(v)
                accepted.append(a)
                context_tokens.append(request.context_tokens)
                tokens += a
            else:
                prefill_tokens += request.context_tokens
                request.prompted = True
            emitted += request.receive(tokens)
            has_drafts = self._draw.random() < request.traffic.availability
            request.drafts = plan.proposal_length if has_drafts else 0
            request.ready = request.ready and not plan.skip_drafter
        shape = Shape(
            requests=len(self._live),
            tokens=len(requests) + sum(verified),
            context_tokens=sum(context_tokens),
            proposal_length=plan.proposal_length,
            ragged=len(set(verified)) > 1,
            prefill_tokens=prefill_tokens,
            drafter_skipped=plan.skip_drafter,
        )
        seconds = self.machine.seconds(self.steps, shape, self._draw)
        left = tuple(request.info for request in self._live if not request.left_tokens)
        self._live = [request for request in self._live if request.left_tokens]
        self._refill()
        flags = self.machine.flags(self.steps)
        return Step(
            number=self.steps,
            shape=shape,
            seconds=seconds,
            stated_seconds=self.machine.costs.seconds(shape),
            requests=requests,
            proposed=proposed,
            verified=verified,
            accepted=accepted,
            context_tokens=context_tokens,
            emitted_tokens=emitted,
            disturbances=flags | {Disturbance.PREFILL} if prefill_tokens else flags,
            entered=entered,
            left=left,
            unready=tuple(request.info for request in self._live if not request.ready),
        )

    def _check(self, plan: Plan) -> None:
        engine = self.capabilities
        possible = engine.candidate_lengths if engine.proposal_settable else (engine.max_length,)
        if plan.proposal_length not in possible:
            raise ValueError(f"plan.proposal_length {plan.proposal_length} is none of {possible}")
        if plan.skip_drafter and not engine.deep_off:
            raise ValueError("plan.skip_drafter is set, and this engine cannot skip its drafter")

    def _refill(self) -> None:
        taken = {request.info.slot for request in self._live}
        free = (slot for slot in range(self.concurrency + len(taken) + 1) if slot not in taken)
        while len(self._live) < self.concurrency:
            traffic = self.traffic[int(self._draw.integers(len(self.traffic)))]
            # Lengths are spread so that requests do not all end together.
            left = max(1, int(traffic.output_tokens * self._draw.uniform(0.5, 1.5)))
            prompt = int(self._draw.integers(*PROMPT_TOKENS))
            self._requests += 1
            info = RequestInfo(next(free), f"r{self._requests}", traffic.label, traffic.max_draft, prompt)
            self._live.append(Request(info, traffic, prompt, left, prompted=not self._prefill))
            self._entered.append(info)
