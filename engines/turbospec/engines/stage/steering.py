"""A stage's view of the controller: is the engine controlled, and under which policy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import grpc
from turbospec.v1 import introspection_pb2, introspection_pb2_grpc, operations_pb2, operations_pb2_grpc

# Long enough that a machine which stands still for a while ends no run: a controller that is gone refuses at
# once, and an engine says why in its log.
_CALL_SECONDS = 60.0
_CONNECT_SECONDS = 60.0
_POLL_SECONDS = 0.1
# The first steps after a pause have no plan yet, and that is no fault. Beyond these, a tenth of the steps at
# another length would show in what is measured.
_FIRST_STEPS = 4
_MOST_UNCONTROLLED_STEPS = 0.1
# The addresses are this machine's own, whatever proxy the environment names.
_CHANNEL_OPTIONS = [("grpc.enable_http_proxy", 0)]


class NotControlledError(Exception):
    """The engine runs on its own lengths; what would be measured is not the policy."""


class Steering:
    """Asks and changes the controller, for one engine."""

    def __init__(self, introspection: str, operations: str, engine_id: str) -> None:
        """Takes the controller's two addresses as gRPC targets. Close it, or use it in a `with` block."""
        self._engine_id = engine_id
        self._channels = [
            grpc.insecure_channel(target, options=_CHANNEL_OPTIONS) for target in (introspection, operations)
        ]
        self._introspection = introspection_pb2_grpc.IntrospectionServiceStub(self._channels[0])
        self._operations = operations_pb2_grpc.OperationsServiceStub(self._channels[1])

    def set_policy(self, policy: str) -> None:
        """Sets the engine's policy. Raises grpc.RpcError where the controller refuses."""
        selector = operations_pb2.EngineSelector(engine_id=self._engine_id)
        request = operations_pb2.SetPolicyRequest(engine=selector, policy=policy)
        self._operations.SetPolicy(request, timeout=_CALL_SECONDS)

    @contextmanager
    def following(self, policy: str) -> Iterator[None]:
        """Sets the policy for what the engine does in the `with` block.

        At its end raises NotControlledError where more than a few of the engine's steps since its beginning
        were on lengths of its own, because a hiccup of the machine let a plan expire.
        """
        self.set_policy(policy)
        before = self._summary()
        yield
        self.check_controlled(policy)
        after = self._summary()
        if before is None or after is None or after.steps < before.steps:
            raise NotControlledError(f"engine {self._engine_id!r} has connected anew meanwhile")
        own, steps = _fallbacks(after) - _fallbacks(before), after.steps - before.steps
        if own > max(_FIRST_STEPS, _MOST_UNCONTROLLED_STEPS * steps):
            raise NotControlledError(
                f"engine {self._engine_id!r} ran {own} of {steps} steps on lengths of its own, not under "
                f"policy {policy!r}"
            )

    def wait_connected(self, seconds: float = _CONNECT_SECONDS) -> None:
        """Returns once the engine has connected. Raises NotControlledError when time is up."""
        end = time.monotonic() + seconds
        while (engine := self._summary()) is None or not engine.connected:
            if time.monotonic() > end:
                raise NotControlledError(
                    f"engine {self._engine_id!r} has not connected to the controller within {seconds:.0f} s"
                )
            time.sleep(_POLL_SECONDS)

    def knows_costs(self) -> bool:
        """Whether the controller knows of any step what it took, from a profile or by itself."""
        request = introspection_pb2.GetEngineRequest(engine_id=self._engine_id)
        engine = self._introspection.GetEngine(request, timeout=_CALL_SECONDS)
        return bool(engine.latency.evidence_steps > 0)

    def check_controlled(self, policy: str) -> None:
        """Raises NotControlledError unless the engine's newest step ran under a plan of `policy`."""
        engine = self._summary()
        if engine is None:
            raise NotControlledError(f"the controller does not know engine {self._engine_id!r}")
        if not engine.controlled:
            why = engine.uncontrolled_reason or "no reason given"
            raise NotControlledError(f"engine {self._engine_id!r} is not controlled: {why}")
        if engine.policy != policy:
            raise NotControlledError(
                f"engine {self._engine_id!r} runs under policy {engine.policy!r}, not {policy!r}"
            )

    def _summary(self) -> introspection_pb2.EngineSummary | None:
        response = self._introspection.ListEngines(
            introspection_pb2.ListEnginesRequest(), timeout=_CALL_SECONDS
        )
        engines: dict[str, introspection_pb2.EngineSummary] = {e.engine_id: e for e in response.engines}
        return engines.get(self._engine_id)

    def __enter__(self) -> Steering:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels:
            channel.close()


def _fallbacks(engine: introspection_pb2.EngineSummary) -> int:
    return sum(fallback.count for fallback in engine.fallbacks)
