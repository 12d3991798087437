"""An engine for either version of the adapter: it makes steps through the version's own client.

    PYTHONPATH=ROOTS python engine.py ADDRESS ENGINE_ID STATE [PROTOCOL_VERSION]

ROOTS decide which version. STATE is a JSON file, written anew every few steps; `Engine.state` says what is in
it. PROTOCOL_VERSION is what to say in the hello in place of the client's own.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from turbospec.adapters import client as client_module
from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import StepRecord
from turbospec.adapters.session import Session
from turbospec.v1 import speculation_pb2 as pb

LONGEST = 4
OWN_LENGTH = 2
STEP_SECONDS = 0.004
STAYS = "stays"
CAN_SKIP = "skip_drafter" in pb.Plan.DESCRIPTOR.fields_by_name


def fields(message: Message) -> Iterator[str]:
    """All that is in a message, known to this version or not, such as "Plan.14"."""
    name = message.DESCRIPTOR.name
    for field, value in message.ListFields():
        yield f"{name}.{field.number}"
        if field.message_type is not None:
            for each in [value] if isinstance(value, Message) else value:
                yield from fields(each)
    for unknown in UnknownFieldSet(message):
        yield f"{name}.{unknown.field_number}"


class TappedSession(Session):
    """Notes which fields go over its connection."""

    seen: set[str]

    def _next_message(self) -> bytes | None:
        data = super()._next_message()
        if data is not None:
            request = pb.ControlRequest.FromString(data)
            if request.WhichOneof("message") == "hello":
                TappedSession.seen = set()
            TappedSession.seen.update(fields(request))
        return data

    def _receive(self, data: bytes) -> None:
        TappedSession.seen.update(fields(pb.ControlResponse.FromString(data)))
        super()._receive(data)


TappedSession.seen = set()


class Engine:
    """Four requests, one of which stays. First drafts are always accepted, others never."""

    def __init__(self, address: str, engine_id: str) -> None:
        hello = pb.Hello(
            engine_id=engine_id,
            engine_name="test",
            engine_version="0",
            model="m",
            method="draft_model",
            max_length=LONGEST,
            static_length=OWN_LENGTH,
            max_batch=64,
            max_tokens_per_step=8192,
            max_context=4096,
            hardware="cpu",
            model_parallel_size=1,
            capabilities=pb.Capabilities(
                proposal_settable=True,
                proposal_saves_draft_cost=True,
                verification_per_request=True,
                deep_off=CAN_SKIP,
                plan_delay_steps=1,
            ),
        )
        self.client = client_module.ControlClient(address, lambda: hello)
        self.steps = 0
        self.plan: AppliedPlan | None = None
        self._drafts = 0
        self._live: list[str] = []
        self._gaps: set[str] = set()
        self._enter(STAYS, max_draft=1)
        for number in range(3):
            self._enter(f"request-{number}")
        self.client.start()

    def _enter(self, request_id: str, max_draft: int | None = None) -> None:
        self._live.append(request_id)
        self.client.open_request(request_id, label="test", max_draft=max_draft, prompt_tokens=10)

    def step(self) -> None:
        """One step under the plan of the moment."""
        self.plan = plan = self.client.current()
        time.sleep(STEP_SECONDS)
        length = OWN_LENGTH if plan is None else plan.proposal_length
        skips = CAN_SKIP and plan is not None and plan.skip_drafter
        record = StepRecord()
        for request_id in self._live:
            wanted = length if plan is None else plan.verification_length(request_id)
            verified = 0 if request_id in self._gaps else min(wanted, self._drafts)
            record.request_ids.append(request_id)
            record.proposed.append(self._drafts)
            record.verified.append(verified)
            record.accepted.append(min(1, verified))
            record.context_tokens.append(100)
        record.plan = plan
        record.duration_ns = round(STEP_SECONDS * 1e9)
        record.requests = len(self._live)
        record.proposal_length = length
        record.emitted_tokens = record.requests + sum(record.accepted)
        if CAN_SKIP:
            record.drafter_skipped = skips
            self._gaps = self._gaps.union(self._live) if skips else self._gaps.intersection(self._live)
            record.unready = set(self._gaps)
            self.client.limited_by_memory()
        self._drafts = 0 if skips else length
        self.client.submit(record)
        self.steps += 1
        if self.steps % 40 == 0:
            self.client.close_request(self._live.pop(1))
            self._enter(f"request-{self.steps}")

    def state(self) -> dict[str, object]:
        """Steps and fallbacks so far; the plan of the last step; the fields of the present connection."""
        plan = self.plan
        return {
            "steps": self.steps,
            "fallbacks": self.client.fallbacks(),
            "connections": self.client.counters().connections,
            "fields": sorted(TappedSession.seen.copy()),
            "plan": plan and {"proposal_length": plan.proposal_length, "lengths": plan.verification_lengths},
        }


def main(address: str, engine_id: str, path: str, protocol_version: str = "") -> None:
    logging.basicConfig(level=logging.WARNING)
    client_module.Session = TappedSession  # type: ignore[misc]
    if protocol_version:
        client_module.PROTOCOL_VERSION = int(protocol_version)
    engine = Engine(address, engine_id)
    while True:
        engine.step()
        if engine.steps % 5 == 0:
            written = Path(f"{path}.new")
            written.write_text(json.dumps(engine.state()))
            os.replace(written, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
