"""The scripted engine as a subject: a stated world with the adapter's own client, paced in real time.

It is also the least that an adapter must do, in a page: see `ScriptedAdapter`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from support.conformance.subject import ENGINE_ID, LENGTH, MOST_REQUESTS, Ask, Done, Run, SeenStep
from support.scripted.engine import to_record
from support.scripted.hello import capabilities, make_hello
from support.scripted.traffic import Request, TrafficClass
from support.scripted.world import Plan, Step, World
from turbospec.adapters.client import ControlClient
from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import StepRecord
from turbospec.sidecar.core.types import Capabilities, RequestInfo
from turbospec.v1 import speculation_pb2 as pb

# What a step takes: an answer from the controller is there before the next, also on a busy machine.
STEP_SECONDS = 0.015


class AskedWorld(World):
    """A world whose requests are asked for one by one, instead of coming for ever."""

    def __init__(self, engine: Capabilities) -> None:
        self._queue: deque[Request] = deque()
        super().__init__(engine, [TrafficClass((0.7,))], MOST_REQUESTS, prefill=True)

    def ask(self, request_id: str, ask: Ask) -> None:
        info = RequestInfo(0, request_id, ask.label, ask.max_draft, len(ask.prompt))
        self._queue.append(Request(info, self.traffic[0], len(ask.prompt), ask.max_tokens, prompted=False))
        self._refill()

    def abort(self, request_id: str) -> None:
        self._live = [request for request in self._live if request.info.request_id != request_id]
        self._refill()

    def _refill(self) -> None:
        while self._queue and len(self._live) < self.concurrency:
            self._live.append(self._queue.popleft())
            self._entered.append(self._live[-1].info)


class ScriptedAdapter:
    """What an adapter does with the shared client: hello, plan before each step, report after it.

    Each method is one of its duties, so that a test can break one of them.
    """

    def __init__(self, address: str, engine: Capabilities) -> None:
        self.engine = engine
        self.client = ControlClient(address, self.hello)
        self._idle = True
        self.client.start()

    def hello(self) -> pb.Hello:
        """Who this is."""
        return make_hello(ENGINE_ID, self.engine)

    def plan(self) -> AppliedPlan | None:
        """Before each step, once."""
        return self.client.current()

    def lengths(self, applied: AppliedPlan | None) -> Plan:
        """What the engine is told; its own length where there is no plan."""
        if applied is None:
            return Plan(self.engine.static_length, lambda _: self.engine.static_length)
        return Plan(
            applied.proposal_length,
            lambda info: applied.verification_length(info.request_id),
            applied.skip_drafter,
        )

    def entered(self, info: RequestInfo) -> None:
        """With the first step of a request."""
        self.client.open_request(
            info.request_id, label=info.label, max_draft=info.max_draft, prompt_tokens=info.prompt_tokens
        )

    def left(self, info: RequestInfo) -> None:
        """With the last step of a request, or when it was taken back."""
        self.client.close_request(info.request_id)

    def record(self, step: Step, applied: AppliedPlan | None) -> StepRecord:
        """What is said of a step."""
        record = to_record(step, applied)
        if self._idle:
            record.disturbances.append(pb.DISTURBANCE_AFTER_IDLE)
            self._idle = False
        return record

    def report(self, step: Step, applied: AppliedPlan | None) -> None:
        """After each step."""
        for info in step.entered:
            self.entered(info)
        for info in step.left:
            self.left(info)
        self.client.submit(self.record(step, applied))

    def idle(self) -> None:
        """Nothing is left to do."""
        self._idle = True


class ScriptedSubject:
    """`adapter` may be a broken one. `declared`: capabilities that are not the usual ones."""

    def __init__(self, adapter: type[ScriptedAdapter] = ScriptedAdapter, **declared: object) -> None:
        engine = {"static_length": LENGTH, "max_batch": MOST_REQUESTS, "deep_off": True, **declared}
        self._engine = capabilities(LENGTH, **engine)
        self._adapter_class = adapter
        self._world = AskedWorld(self._engine)
        self._asked = 0

    def start(self, address: str) -> None:
        self._adapter = self._adapter_class(address, self._engine)

    def serve(self, asks: Sequence[Ask]) -> Run:
        world, adapter = self._world, self._adapter
        ids = [f"r{self._asked + i}" for i in range(len(asks))]
        self._asked += len(asks)
        tokens = dict.fromkeys(ids, 0)
        for request_id, ask in zip(ids, asks, strict=True):
            world.ask(request_id, ask)
        aborts = {ask.abort_after: id_ for id_, ask in zip(ids, asks, strict=True) if ask.abort_after}
        steps: list[SeenStep] = []
        while world.live:
            applied = adapter.plan()
            before = {request.info.request_id: request.left_tokens for request in world._live}
            step = world.step(adapter.lengths(applied))
            time.sleep(STEP_SECONDS)
            adapter.report(step, applied)
            steps.append(_seen(step))
            after = {request.info.request_id: request.left_tokens for request in world._live}
            for request_id, left in before.items():
                tokens[request_id] += left - after.get(request_id, 0)
            if (taken_back := aborts.get(len(steps))) is not None:
                info = next(info for info in world.live if info.request_id == taken_back)
                world.abort(taken_back)
                adapter.left(info)
        adapter.idle()
        done = [Done(id_, len(ask.prompt), tokens[id_]) for id_, ask in zip(ids, asks, strict=True)]
        return Run(done, steps)

    def close(self) -> None:
        self._adapter.client.close()


def _seen(step: Step) -> SeenStep:
    ids = [info.request_id for info in step.requests]
    return SeenStep(
        step.shape.requests,
        step.shape.proposal_length,
        dict(zip(ids, step.verified, strict=True)),
        dict(zip(ids, step.accepted, strict=True)),
    )
