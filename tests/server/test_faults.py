"""A bug in the controller of one engine is that engine's misfortune only."""

from __future__ import annotations

from pathlib import Path

import grpc
from support import faulty_controller
from support.engine_stream import EngineStream, report
from support.serving import Server


def test_a_fault_is_contained_logged_and_survived(tmp_path: Path) -> None:
    """Its stream ends as INTERNAL with a traceback in the log; others go on; it can come back, afresh."""
    server = Server(tmp_path, program=(faulty_controller.__file__,))
    try:
        with EngineStream.connected(server.control, engine_id="well") as well:
            well.plan(report(1))
            with EngineStream.connected(server.control, engine_id="ill") as ill:
                ill.plan(report(1))
                ill.send(report(2, requests=13))
                code, details = ill.end()
            assert code is grpc.StatusCode.INTERNAL
            assert details == "controller: failed on this engine; see the controller's log"
            (event,) = server.wait_for("controller.failed")
            assert event["engine"] == "ill/0"
            assert event["exception"][0]["exc_type"] == "ZeroDivisionError"
            why = server.engine("ill").summary.uncontrolled_reason
            assert why.startswith("its controller failed (ZeroDivisionError: a bug)")
            assert well.plan(report(2)).report_sequence == 2
            with EngineStream.connected(server.control, engine_id="ill") as ill:
                assert ill.plan(report(1)).report_sequence == 1
                assert server.engine("ill").summary.steps == 1
    finally:
        assert server.stop() == 0
