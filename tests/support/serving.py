"""`turbospec serve` as a process, with any settings, and its services' clients."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from support.patience import PATIENCE_SECONDS, wait_until
from turbospec.v1 import introspection_pb2 as ipb
from turbospec.v1 import introspection_pb2_grpc, operations_pb2_grpc

_ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = os.pathsep.join(str(_ROOT / root) for root in ("proto", "sidecar", "adapters", "engines"))


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without TurboSpec's variables, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TURBOSPEC_")}
    return {**kept, "PYTHONPATH": SOURCE_ROOTS, **(more or {})}


def turbospec(
    *arguments: str, env: Mapping[str, str] | None = None, within: float = 500
) -> subprocess.CompletedProcess[str]:
    """Runs the command line to its end, which comes `within` so many seconds."""
    command = [sys.executable, "-m", "turbospec.cli.main", *arguments]
    return subprocess.run(
        command, env=environment(env), capture_output=True, text=True, timeout=within, check=False
    )


class Server:
    """A controller with its sockets in `directory`/turbospec, which it creates itself.

    `program` is what the interpreter runs in place of the `turbospec` command.
    """

    def __init__(
        self,
        directory: Path,
        *flags: str,
        env: Mapping[str, str] | None = None,
        program: tuple[str, ...] = ("-m", "turbospec.cli.main"),
        log: Path | None = None,
    ) -> None:
        self._program = program
        self.directory = directory
        self.sockets = directory / "turbospec"
        self._flags = (
            *("--control-address", f"unix:{self.sockets / 'control.sock'}"),
            *("--operations-address", f"unix:{self.sockets / 'operations.sock'}"),
            *("--introspection-address", "127.0.0.1:0"),
            *flags,
        )
        self._env = env
        self.log = log or directory / "server.log"
        self.start()

    def start(self) -> None:
        """Starts it, again after a stop, and waits until it serves."""
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, *self._program, "serve", *self._flags, "--ready-file", str(ready)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment(self._env), stderr=log)

        def serving() -> bool:
            assert self.process.poll() is None, f"the server did not start:\n{self.log.read_text()}"
            return ready.exists()

        wait_until(serving, "serving")
        addresses = json.loads(ready.read_text())
        self.control, self.introspection = addresses["control"], addresses["introspection"]
        self.operations = addresses["operations"]
        # Only there with --metrics-address.
        self.metrics: str | None = addresses.get("metrics")
        self.channel = grpc.insecure_channel(self.introspection)
        self.look = introspection_pb2_grpc.IntrospectionServiceStub(self.channel)
        self.operations_channel = grpc.insecure_channel(self.operations)
        self.operate = operations_pb2_grpc.OperationsServiceStub(self.operations_channel)

    def engine(self, engine_id: str = "engine-0", rank: int = 0) -> ipb.GetEngineResponse:
        return self.look.GetEngine(
            ipb.GetEngineRequest(engine_id=engine_id, rank=rank), timeout=PATIENCE_SECONDS
        )

    @contextmanager
    def watched(self, engine_id: str) -> Iterator[None]:
        """Somebody watches the engine's steps: meanwhile none waits to be reported."""
        watch = self.look.WatchSteps(ipb.WatchStepsRequest(engine_id=engine_id))
        watch.initial_metadata()
        try:
            yield
        finally:
            watch.cancel()

    def learnt(self, engine_id: str = "engine-0") -> dict[str, Any]:
        """What reports can change in an engine's state."""
        state = MessageToDict(self.engine(engine_id))
        return {name: state.get(name) for name in ("acceptance", "latency", "probeSteps")} | {
            name: state["summary"].get(name) for name in ("steps", "requests", "acceptanceRatio")
        }

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log lines of one event so far."""
        # The last piece may be half a line.
        lines = [json.loads(line) for line in self.log.read_text().split("\n")[:-1] if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def wait_for(self, name: str) -> list[dict[str, Any]]:
        """Log lines of one event, once there is one."""
        wait_until(lambda: self.events(name), f"logged {name}")
        return self.events(name)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends it, and returns the exit status."""
        self.channel.close()
        self.operations_channel.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)
