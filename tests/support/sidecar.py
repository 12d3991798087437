"""The real controller as a process, for tests of what runs in engines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from support.patience import PATIENCE_SECONDS, wait_until
from turbospec.v1 import (
    introspection_pb2,
    introspection_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
)

_ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = os.pathsep.join(str(_ROOT / root) for root in ("proto", "sidecar", "adapters", "engines"))


class Sidecar:
    """`turbospec serve` with its sockets in `directory`. The control address stays the same over restarts."""

    def __init__(self, directory: Path, policy: str) -> None:
        self._directory = directory
        self.control_address = f"unix:{directory / 'control.sock'}"
        self._log = directory / "sidecar.log"
        self.start(policy)

    def start(self, policy: str) -> None:
        """Starts it, again after `kill`, and waits until it serves."""
        ready = self._directory / "ready.json"
        ready.unlink(missing_ok=True)
        command = [
            *(sys.executable, "-m", "turbospec.cli.main", "serve", "--policy", policy),
            *("--control-address", self.control_address),
            *("--operations-address", f"unix:{self._directory / 'operations.sock'}"),
            *("--introspection-address", "127.0.0.1:0"),
            *("--ready-file", str(ready)),
        ]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**os.environ, "PYTHONPATH": SOURCE_ROOTS}, stdout=log, stderr=log
            )

        def serving() -> bool:
            assert self.process.poll() is None, f"the controller did not start:\n{self._log.read_text()}"
            return ready.exists()

        wait_until(serving, "serving")
        self._addresses = json.loads(ready.read_text())

    @property
    def introspection(self) -> str:
        """Its address, as a gRPC target."""
        return str(self._addresses["introspection"])

    @property
    def operations(self) -> str:
        """Its address, as a gRPC target."""
        return str(self._addresses["operations"])

    def set_policy(self, policy: str, *, shadow: bool | None = None) -> None:
        """For all engines, those included that connect later. `shadow` None: as it is."""
        with grpc.insecure_channel(self.operations) as channel:
            stub = operations_pb2_grpc.OperationsServiceStub(channel)
            request = operations_pb2.SetPolicyRequest(policy=policy, shadow=shadow)
            stub.SetPolicy(request, timeout=PATIENCE_SECONDS)

    def engines(self) -> list[dict[str, Any]]:
        """What introspection lists, as JSON."""
        with grpc.insecure_channel(self.introspection) as channel:
            stub = introspection_pb2_grpc.IntrospectionServiceStub(channel)
            answer = stub.ListEngines(introspection_pb2.ListEnginesRequest(), timeout=PATIENCE_SECONDS)
        listed = MessageToDict(answer, preserving_proto_field_name=True)
        return list(listed.get("engines", []))

    def engine(self, engine_id: str) -> dict[str, Any]:
        """Everything that introspection tells of one engine, as JSON."""
        with grpc.insecure_channel(self.introspection) as channel:
            stub = introspection_pb2_grpc.IntrospectionServiceStub(channel)
            request = introspection_pb2.GetEngineRequest(engine_id=engine_id)
            answer = stub.GetEngine(request, timeout=PATIENCE_SECONDS)
        return MessageToDict(answer, preserving_proto_field_name=True)

    def request(self, engine_id: str, request_id: str) -> dict[str, Any] | None:
        """A live request, as JSON; None where introspection finds none."""
        with grpc.insecure_channel(self.introspection) as channel:
            stub = introspection_pb2_grpc.IntrospectionServiceStub(channel)
            request = introspection_pb2.GetRequestRequest(engine_id=engine_id, request_id=request_id)
            try:
                answer = stub.GetRequest(request, timeout=PATIENCE_SECONDS)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    return None
                raise
        return MessageToDict(answer, preserving_proto_field_name=True)

    def decisions(self, engine_id: str) -> list[dict[str, Any]]:
        """The newest decisions with their explanations, as JSON."""
        with grpc.insecure_channel(self.introspection) as channel:
            stub = introspection_pb2_grpc.IntrospectionServiceStub(channel)
            request = introspection_pb2.ExplainDecisionsRequest(engine_id=engine_id)
            answer = stub.ExplainDecisions(request, timeout=PATIENCE_SECONDS)
        return [MessageToDict(each, preserving_proto_field_name=True) for each in answer.decisions]

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a crash does: nothing is said to the engines."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
