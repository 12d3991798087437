"""Looking into the controller while load runs in the same event loop."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

import grpc
from turbospec.v1 import introspection_pb2 as pb
from turbospec.v1 import introspection_pb2_grpc

_CALL_SECONDS = 60.0  # as in `stage.steering`


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of the newest plan. `mean_verification_length`: over the requests that it names, None where none."""

    mean_verification_length: float | None
    proposal_length: int
    drafter_skipped: bool
    unready_requests: int


@dataclass(frozen=True, slots=True)
class RequestState:
    """One request: draft tokens verified and accepted so far, and the newest plan's length for it."""

    verified: int
    accepted: int
    planned_length: int | None


class Watch:
    """Asks about one engine."""

    def __init__(self, introspection: str, engine_id: str) -> None:
        """Takes the controller's address as a gRPC target. Use it in a `with` block, in an event loop."""
        self._engine_id = engine_id
        # The address is this machine's own, whatever proxy the environment names.
        self._channel = grpc.aio.insecure_channel(introspection, options=[("grpc.enable_http_proxy", 0)])
        self._stub = introspection_pb2_grpc.IntrospectionServiceStub(self._channel)

    async def lengths(self) -> Lengths:
        """Raises grpc.RpcError where the controller does not know the engine."""
        engine = await self._engine()
        named = list(engine.last_decision.requests_by_verification_length)
        return Lengths(
            mean_length(named),
            engine.summary.proposal_length,
            engine.summary.drafter_skipped,
            engine.summary.unready_requests,
        )

    async def steps(self) -> int:
        """Steps that the engine has reported since it connected. Raises as `lengths` does."""
        return int((await self._engine()).summary.steps)

    async def request(self, request_id: str) -> RequestState | None:
        """None where the controller knows no such live request."""
        request = pb.GetRequestRequest(engine_id=self._engine_id, request_id=request_id)
        try:
            state = await self._stub.GetRequest(request, timeout=_CALL_SECONDS)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:  # not yet begun, or just ended
                return None
            raise
        planned = state.verification_length if state.HasField("verification_length") else None
        return RequestState(state.verified, state.accepted, planned)

    async def _engine(self) -> pb.GetEngineResponse:
        request = pb.GetEngineRequest(engine_id=self._engine_id)
        answer: pb.GetEngineResponse = await self._stub.GetEngine(request, timeout=_CALL_SECONDS)
        return answer

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close(None)


def mean_length(requests_by_length: list[int]) -> float | None:
    """Mean of lengths from how many requests have each: entry v is the number with length v."""
    requests = sum(requests_by_length)
    if not requests:
        return None
    return sum(length * n for length, n in enumerate(requests_by_length)) / requests
