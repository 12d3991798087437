"""The controller of a stage: where it listens, and starting it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from turbospec.engines.processes import Child, Children, free_port

# A start takes a second or two; on a loaded machine, and one that stands still for a while, far longer.
_START_SECONDS = 120.0
_CALL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Controller:
    """The controller's addresses: gRPC targets, and the URL of its metrics without /metrics."""

    control: str
    operations: str
    introspection: str
    metrics: str

    @classmethod
    def choose(cls, sockets: Path) -> Controller:
        """Sockets in the directory `sockets`, and free ports."""
        return cls(
            control=f"unix:{sockets / 'control.sock'}",
            operations=f"unix:{sockets / 'operations.sock'}",
            introspection=f"127.0.0.1:{free_port()}",
            metrics=f"http://127.0.0.1:{free_port()}",
        )

    def start(self, children: Children, profiles: Path | None = None, *, name: str = "controller") -> Child:
        """Starts `turbospec serve` and waits until it serves. Raises ProcessFailedError where it does not.

        `profiles` is the directory of latency profiles, if any; `name` that of its log.
        """
        argv = [
            *(sys.executable, "-m", "turbospec.cli.main", "serve"),
            *("--control-address", self.control),
            *("--operations-address", self.operations),
            *("--introspection-address", self.introspection),
            *("--metrics-address", self.metrics.removeprefix("http://")),
            *(() if profiles is None else ("--profiles-directory", str(profiles))),
        ]
        child = children.start(name, argv, {})
        with grpc.insecure_channel(self.introspection, options=[("grpc.enable_http_proxy", 0)]) as channel:
            child.wait_until(lambda: _serves(channel), _START_SECONDS)
        return child


def _serves(channel: grpc.Channel) -> bool:
    # Not `channel_ready_future`: it says of a port that it is open, and has threads that outlive it.
    try:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=_CALL_SECONDS
        )
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
