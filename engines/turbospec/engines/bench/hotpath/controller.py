"""`turbospec serve` with a stopwatch at its edge: `python -m … OUTPUT ARGUMENTS-OF-SERVE…`.

The time of a plan runs from the bytes of the report, as gRPC hands them to the sidecar, to the bytes of the
plan, as the sidecar hands them to gRPC: reading, checking, learning, deciding, writing. When the sidecar
stops, OUTPUT holds one JSON array [requests, reason, nanoseconds] per plan that answered a report.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import grpc
from turbospec.cli.main import main as turbospec
from turbospec.v1 import speculation_pb2 as pb
from turbospec.v1 import speculation_pb2_grpc


class Stopwatch:
    """Reads reports and writes plans for one engine, in place of gRPC's plain calls."""

    def __init__(self) -> None:
        self.plans: list[tuple[int, str, int]] = []
        self._report = (0, 0, 0)

    def read(self, data: bytes) -> pb.ControlRequest:
        began = perf_counter_ns()
        request = pb.ControlRequest.FromString(data)
        if request.WhichOneof("message") == "report":
            self._report = (request.report.sequence, request.report.requests, began)
        return request

    def write(self, response: pb.ControlResponse) -> bytes:
        data = response.SerializeToString()
        sequence, requests, began = self._report
        # A plan that answers no report of its own, such as that after a change of policy, is not timed.
        if began and response.plan.report_sequence == sequence:
            reason = pb.PlanReason.Name(response.plan.reason)
            self.plans.append((requests, reason, perf_counter_ns() - began))
            self._report = (0, 0, 0)
        return data


def main(output: str, *serve: str) -> int:
    """Serves until it is told to stop; the exit status is that of `turbospec serve`."""
    stopwatch = Stopwatch()

    def add(servicer: Any, server: Any) -> None:
        handler = grpc.stream_stream_rpc_method_handler(servicer.Control, stopwatch.read, stopwatch.write)
        service = grpc.method_handlers_generic_handler(
            "turbospec.v1.SpeculationService", {"Control": handler}
        )
        server.add_generic_rpc_handlers((service,))

    speculation_pb2_grpc.add_SpeculationServiceServicer_to_server = add
    try:
        return turbospec(["serve", *serve])
    finally:
        Path(output).write_text("".join(json.dumps(plan) + "\n" for plan in stopwatch.plans))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
