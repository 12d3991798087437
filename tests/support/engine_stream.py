"""An engine's stream by hand: any message, also wrong ones, over a real connection."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import grpc
from support.patience import PATIENCE_SECONDS
from turbospec.v1 import speculation_pb2 as pb


def hello(**changes: Any) -> pb.Hello:
    """A valid hello, with changes."""
    fields: dict[str, Any] = {
        "protocol_version": 1,
        "engine_id": "engine-0",
        "epoch": 7,
        "engine_name": "test",
        "model": "target",
        "method": "draft_model",
        "max_length": 5,
        "static_length": 3,
        "max_batch": 256,
        "max_context": 4096,
        "hardware": "cpu",
        "model_parallel_size": 1,
        "capabilities": pb.Capabilities(
            proposal_settable=True, proposal_saves_draft_cost=True, verification_per_request=True
        ),
    }
    return pb.Hello(**(fields | changes))


def report(sequence: int, **changes: Any) -> pb.StepReport:
    """A valid report of two requests in slots 0 and 1, opened in the first one, with changes."""
    fields: dict[str, Any] = {
        "sequence": sequence,
        "duration_ns": 10_000_000,
        "requests": 2,
        "proposal_length": 3,
        "emitted_tokens": 5,
        "slots": [0, 1],
        "proposed": [3, 3],
        "verified": [3, 2],
        "accepted": [2, 1],
        "context_tokens": [100 + sequence, 200 + sequence],
    }
    if sequence == 1:
        fields["opened"] = [opened(0), opened(1)]
    return pb.StepReport(**(fields | changes))


def opened(slot: int, **changes: Any) -> pb.RequestOpened:
    return pb.RequestOpened(
        **({"slot": slot, "request_id": f"request-{slot}", "prompt_tokens": 100} | changes)
    )


class EngineStream:
    """One connection. `messages` collects what came besides plans."""

    def __init__(self, address: str) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        control = self._channel.stream_stream(
            "/turbospec.v1.SpeculationService/Control",
            response_deserializer=pb.ControlResponse.FromString,
        )
        # Not below what a slow machine takes for a file of tests: some streams are shared by all of one.
        self._call = control(iter(self._requests.get, None), timeout=1800)
        self._responses: Iterator[pb.ControlResponse] = iter(self._call)

    @classmethod
    def connected(cls, address: str, **changes: Any) -> EngineStream:
        """Says a valid hello, with changes, and takes the answers: configure and a first plan."""
        stream = cls(address)
        stream.send(hello(**changes))
        assert stream.next().WhichOneof("message") == "configure"
        assert stream.next().WhichOneof("message") == "plan"
        return stream

    def send(self, message: pb.Hello | pb.StepReport) -> None:
        kind = "hello" if isinstance(message, pb.Hello) else "report"
        self.send_bytes(pb.ControlRequest(**{kind: message}).SerializeToString())

    def send_bytes(self, data: bytes) -> None:
        self._requests.put(data)

    def next(self) -> pb.ControlResponse:
        return next(self._responses)

    def plan(self, message: pb.StepReport) -> pb.Plan:
        """Reports a step, and takes the plan made from it."""
        self.send(message)
        while True:
            response = self.next()
            if response.plan.report_sequence == message.sequence:
                return response.plan

    def end(self) -> tuple[grpc.StatusCode, str]:
        """Takes all that still comes, and returns the status that the stream ends with."""
        try:
            for _ in self._responses:
                pass
        except grpc.RpcError:
            pass
        return self._call.code(), self._call.details()

    def close(self) -> None:
        """Leaves, and returns when the controller has let go of the engine."""
        self._requests.put(None)
        limit = threading.Timer(PATIENCE_SECONDS, self._call.cancel)
        limit.start()
        self.end()
        limit.cancel()
        self._channel.close()

    def hang_up(self) -> None:
        """Is gone, as a killed engine is."""
        self._channel.close()
        self._requests.put(None)

    def __enter__(self) -> EngineStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
