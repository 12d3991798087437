"""The controller of a stage: where it listens, and starting it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import grpc
from turbospec.engines.processes import Child, Children, free_port

_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Controller:
    """The controller's addresses, as gRPC targets."""

    control: str
    operations: str
    introspection: str

    @classmethod
    def choose(cls, sockets: Path) -> Controller:
        """Sockets in the directory `sockets`, and a free port."""
        return cls(
            control=f"unix:{sockets / 'control.sock'}",
            operations=f"unix:{sockets / 'operations.sock'}",
            introspection=f"127.0.0.1:{free_port()}",
        )

    def start(self, children: Children) -> Child:
        """Starts `turbospec serve` and waits until it serves. Raises ProcessFailedError where it does not."""
        argv = [
            *(sys.executable, "-m", "turbospec.cli.main", "serve"),
            *("--control-address", self.control),
            *("--operations-address", self.operations),
            *("--introspection-address", self.introspection),
        ]
        child = children.start("controller", argv, {})
        channel = grpc.insecure_channel(self.introspection, options=[("grpc.enable_http_proxy", 0)])
        ready = grpc.channel_ready_future(channel)
        try:
            child.wait_until(ready.done, _START_SECONDS)
        finally:
            ready.cancel()
            channel.close()
        return child
