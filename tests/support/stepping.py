"""The engine's side of a client without an engine: steps, with requests that come and go."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from support.patience import PATIENCE_SECONDS
from turbospec.adapters.client import ControlClient
from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import StepRecord
from turbospec.v1 import speculation_pb2 as pb

MAX_LENGTH = 4
_FIRST_CONTEXT = 10


def make_hello() -> pb.Hello:
    """An engine that can do everything, with lengths up to `MAX_LENGTH`."""
    return pb.Hello(
        engine_id="stepping-0",
        engine_name="vllm",
        engine_version="0",
        adapter_version="0",
        model="m",
        method="draft_model",
        max_length=MAX_LENGTH,
        static_length=2,
        max_batch=64,
        max_tokens_per_step=8192,
        max_context=1 << 20,
        hardware="cpu",
        dtype="float32",
        model_parallel_size=1,
        capabilities=pb.Capabilities(
            proposal_settable=True,
            proposal_saves_draft_cost=True,
            verification_per_request=True,
            plan_delay_steps=1,
        ),
    )


class Stepper:
    """Runs steps of `seconds` over `requests` live requests; every tenth step one leaves and one enters.

    Contexts number the steps, so that a report says which are in it.
    """

    def __init__(self, client: ControlClient, *, requests: int = 4, seconds: float = 0.002) -> None:
        self.client = client
        self.seconds = seconds
        self.steps = 0
        self.plan: AppliedPlan | None = None
        self.made_at: list[float] = []
        """When each step was made, in monotonic seconds: just before it was reported."""
        self._made = 0
        self.live: list[str] = []
        for _ in range(requests):
            self._enter()

    def _enter(self) -> None:
        self.live.append(f"request-{self._made}")
        self._made += 1
        self.client.open_request(self.live[-1], label="test", prompt_tokens=10)

    def step(self) -> AppliedPlan | None:
        """One step under the plan of the moment."""
        self.plan = plan = self.client.current()
        time.sleep(self.seconds)
        length = 2 if plan is None else plan.proposal_length
        n = len(self.live)
        record = StepRecord()
        record.plan = plan
        record.duration_ns = max(1, int(self.seconds * 1e9))
        record.requests = n
        record.proposal_length = length
        record.emitted_tokens = 2 * n if length else n
        record.request_ids = list(self.live)
        record.proposed = [length] * n
        record.verified = [length] * n
        record.accepted = [min(1, length)] * n
        record.context_tokens = [_FIRST_CONTEXT + self.steps] * n
        self.made_at.append(time.monotonic())
        self.steps += 1
        if self.live and self.steps % 10 == 0:
            self.client.close_request(self.live.pop(0))
            self._enter()
        self.client.submit(record)
        return plan

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def run_until(self, condition: Callable[[], bool], *, every: int = 1) -> None:
        """Steps until `condition` holds, which is asked every so many steps."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"never; {self.steps} steps, {self.client.fallbacks()}"
            self.run(every)

    def run_until_controlled(self) -> AppliedPlan:
        """Steps until there is a plan, and returns it: the next step's may have expired."""
        self.run_until(lambda: self.plan is not None)
        assert self.plan is not None
        return self.plan

    @staticmethod
    def last_step(report: Mapping[str, Any]) -> int:
        """The number, from 0, of the last step in a report, as a controller wrote it down."""
        return int(report["context_tokens"][-1]) - _FIRST_CONTEXT
