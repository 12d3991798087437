"""The sidecar as this command uses it: which engine it is, its policy, its steps, and the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any

import grpc
from turbospec.engines.profiling.errors import ProfilingError
from turbospec.engines.profiling.sorting import Step
from turbospec.sidecar.profiles.profile import Profile
from turbospec.sidecar.server.wire.profiles import write_profile
from turbospec.v1 import introspection_pb2, introspection_pb2_grpc, operations_pb2, operations_pb2_grpc
from turbospec.v1 import speculation_pb2 as spec

# So long that a machine which stands still for a while ends no run: a sidecar that is gone refuses at once.
_CALL_SECONDS = 60.0


class Steps:
    """A running watch: what has come, and how much of it was lost."""

    def __init__(self) -> None:
        self.lost = 0
        self._queue: asyncio.Queue[Step | ProfilingError] = asyncio.Queue()

    async def next(self, seconds: float) -> Step | None:
        """The next step; None where none comes in time. Raises ProfilingError where no more can come."""
        try:
            async with asyncio.timeout(seconds):
                found = await self._queue.get()
        except TimeoutError:
            return None
        if isinstance(found, ProfilingError):
            raise found
        return found

    def forget(self) -> None:
        """Leaves out what has come and was not asked for yet."""
        while not self._queue.empty():
            found = self._queue.get_nowait()
            if isinstance(found, ProfilingError):
                raise found

    def put(self, answer: introspection_pb2.WatchStepsResponse) -> None:
        self.lost += answer.lost_steps
        for step in answer.steps:
            self._queue.put_nowait(_step(step))

    def end(self, error: ProfilingError) -> None:
        self._queue.put_nowait(error)


class Sidecar:
    """Calls to one sidecar's two services. Every method raises ProfilingError where it is refused."""

    def __init__(
        self, introspection: str, operations: str, credential: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Takes two gRPC targets, and the metadata for the second. Use it in a `with` block."""
        self._introspection_target = introspection
        self._operations_target = operations
        self._credential = tuple(credential)
        self._channels = [grpc.insecure_channel(target) for target in (introspection, operations)]
        self._introspection = introspection_pb2_grpc.IntrospectionServiceStub(self._channels[0])
        self._operations = operations_pb2_grpc.OperationsServiceStub(self._channels[1])

    def engines(self) -> list[introspection_pb2.EngineSummary]:
        """All engines that the sidecar knows."""
        answer = self._look(self._introspection.ListEngines, introspection_pb2.ListEnginesRequest())
        return list(answer.engines)

    def engine(self, engine_id: str, rank: int) -> introspection_pb2.GetEngineResponse:
        """Everything known of one engine."""
        request = introspection_pb2.GetEngineRequest(engine_id=engine_id, rank=rank)
        answer: introspection_pb2.GetEngineResponse = self._look(self._introspection.GetEngine, request)
        return answer

    def set_policy(self, engine_id: str, rank: int, policy: str) -> None:
        """Sets the policy of one engine."""
        selector = operations_pb2.EngineSelector(engine_id=engine_id, rank=rank)
        self._operate(
            self._operations.SetPolicy, operations_pb2.SetPolicyRequest(engine=selector, policy=policy)
        )

    def keeps_profiles(self) -> bool:
        """Whether there is a store."""
        try:
            self._operations.ListProfiles(
                operations_pb2.ListProfilesRequest(), timeout=_CALL_SECONDS, metadata=self._credential
            )
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                return False
            raise self._operations_failed(error) from error
        return True

    def import_profile(self, profile: Profile) -> bool:
        """Puts a profile into the store; whether it replaced one."""
        request = operations_pb2.ImportProfileRequest(profile=write_profile(profile))
        return bool(self._operate(self._operations.ImportProfile, request).replaced)

    @asynccontextmanager
    async def watch(self, engine_id: str, rank: int, label: str) -> AsyncIterator[Steps]:
        """The engine's steps in the `with` block, from its beginning on; requests with `label` are ours."""
        steps = Steps()
        request = introspection_pb2.WatchStepsRequest(engine_id=engine_id, rank=rank, label=label)
        async with grpc.aio.insecure_channel(self._introspection_target) as channel:
            call = introspection_pb2_grpc.IntrospectionServiceStub(channel).WatchSteps(request)
            reader = asyncio.create_task(self._read(call, steps))
            try:
                await call.initial_metadata()
                yield steps
            finally:
                reader.cancel()
                with suppress(asyncio.CancelledError):
                    await reader

    async def _read(self, call: Any, steps: Steps) -> None:
        try:
            async for answer in call:
                steps.put(answer)
            steps.end(ProfilingError("the sidecar has ended the stream of steps"))
        except grpc.RpcError as error:
            steps.end(self._introspection_failed(error))

    def _look(self, call: Callable[..., Any], request: Any) -> Any:
        try:
            return call(request, timeout=_CALL_SECONDS)
        except grpc.RpcError as error:
            raise self._introspection_failed(error) from error

    def _operate(self, call: Callable[..., Any], request: Any) -> Any:
        try:
            return call(request, timeout=_CALL_SECONDS, metadata=self._credential)
        except grpc.RpcError as error:
            raise self._operations_failed(error) from error

    def _introspection_failed(self, error: Any) -> ProfilingError:
        target = self._introspection_target
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return ProfilingError(
                f"--sidecar: {target} is not the introspection address of a sidecar as new as this command"
            )
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return ProfilingError(
                f"--sidecar: no sidecar answers at {target}; its log has the address (server.listening)"
            )
        return ProfilingError(f"the sidecar refused: {error.details()}")

    def _operations_failed(self, error: Any) -> ProfilingError:
        target = self._operations_target
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return ProfilingError(f"{error.details()}; give it with --token-file")
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return ProfilingError(f"--operations: {target} is not a sidecar's operations address")
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return ProfilingError(
                f"--operations: no sidecar answers at {target}; its log has the address (server.listening), "
                "and only the socket's owner may open it"
            )
        return ProfilingError(f"the sidecar refused: {error.details()}")

    def __enter__(self) -> Sidecar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels:
            channel.close()


def _step(step: introspection_pb2.ReportedStep) -> Step:
    return Step(
        steps=step.steps,
        seconds=step.duration_seconds if step.HasField("duration_seconds") else None,
        disturbances=frozenset(spec.Disturbance.Name(number) for number in step.disturbances),
        requests=step.requests,
        decoding_requests=step.decoding_requests,
        labelled_requests=step.labelled_requests,
        context_tokens=step.context_tokens,
        target_tokens=step.target_tokens,
        prefill_tokens=step.prefill_tokens,
        proposal_length=step.proposal_length,
        ragged=step.ragged,
        drafter_skipped=step.drafter_skipped,
        plan_version=step.plan_version,
        labelled_unready_requests=step.labelled_unready_requests,
    )
