"""Starting, stopping and being killed."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path

import grpc
import pytest
from support.engine_stream import EngineStream, hello, report
from support.serving import Server, turbospec


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_sockets_are_closed_to_strangers(server: Server) -> None:
    """0660 in a 0750 folder for engines; operations only for the owner."""
    assert mode(server.sockets) == 0o750
    assert mode(server.sockets / "control.sock") == 0o660
    assert mode(server.sockets / "operations.sock") == 0o600


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_drains_and_exits_0(own_server: Server, number: signal.Signals) -> None:
    """Each engine gets `drain`, its stream ends as UNAVAILABLE, and the process is gone within the grace."""
    with (
        EngineStream.connected(own_server.control, engine_id="a") as a,
        EngineStream.connected(own_server.control, engine_id="b") as b,
    ):
        a.plan(report(1))
        assert own_server.stop(number) == 0
        for engine in (a, b):
            assert engine.next().drain.reconnect_after_ms > 0
            assert engine.end()[0] is grpc.StatusCode.UNAVAILABLE
    assert not (own_server.sockets / "control.sock").exists()


def test_a_killed_servers_socket_is_taken_over(own_server: Server) -> None:
    """kill -9 leaves a socket behind; the next server starts on the same path and serves."""
    own_server.process.kill()
    own_server.process.wait()
    assert (own_server.sockets / "control.sock").exists()
    own_server.start()
    with EngineStream.connected(own_server.control) as engine:
        assert engine.plan(report(1)).report_sequence == 1


def test_a_second_server_is_refused_and_harms_nothing(server: Server) -> None:
    """It names the path and the process that holds it, and leaves socket, stream and new engines alone."""
    with EngineStream.connected(server.control, engine_id="first") as engine:
        engine.plan(report(1))
        second = turbospec(
            *("serve", "--control-address", server.control, "--introspection-address", "127.0.0.1:0"),
            *("--operations-address", f"unix:{server.directory / 'other' / 'operations.sock'}"),
        )
        assert second.returncode == 1
        assert str(server.process.pid) in second.stderr
        assert str(server.sockets / "control.sock") in second.stderr
        assert engine.plan(report(2)).report_sequence == 2
    with EngineStream.connected(server.control, engine_id="later") as engine:
        assert engine.plan(report(1)).report_sequence == 1


def test_a_tcp_port_is_not_shared(server: Server, tmp_path: Path) -> None:
    """Two servers on one port would each get half of the engines."""
    second = turbospec(
        *("serve", "--introspection-address", server.introspection),
        *("--control-address", f"unix:{tmp_path}/c.sock", "--operations-address", f"unix:{tmp_path}/o.sock"),
    )
    assert second.returncode == 1
    assert server.introspection in second.stderr


def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    """Only sockets are: anything else at the path is somebody's."""
    path = tmp_path / "control.sock"
    path.write_text("precious")
    refused = turbospec(
        *("serve", "--control-address", f"unix:{path}", "--introspection-address", "127.0.0.1:0"),
        *("--operations-address", f"unix:{tmp_path}/o.sock"),
    )
    assert refused.returncode == 1
    assert f"{path} exists and is not a socket" in refused.stderr
    assert path.read_text() == "precious"


def test_engines_can_come_by_tcp(tmp_path: Path) -> None:
    """Port 0 is any free one, and the log and the ready file tell which."""
    server = Server(tmp_path, "--control-address", "127.0.0.1:0")
    try:
        assert server.wait_for("server.listening")[0]["control"] == server.control
        with EngineStream.connected(server.control) as engine:
            assert engine.plan(report(1)).report_sequence == 1
    finally:
        assert server.stop() == 0


def test_logs_are_json_without_lines_per_step(server: Server) -> None:
    """Not on a terminal each line is one JSON event, and 100 steps add none."""
    with EngineStream.connected(server.control, engine_id="quiet") as engine:
        for sequence in range(1, 101):
            engine.plan(report(sequence))
    assert server.wait_for("server.listening")
    events = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [event["event"] for event in events if event.get("engine") == "quiet/0"] == [
        "engine.connected",
        "engine.disconnected",
    ]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_log_that_cannot_be_written_costs_only_the_log(tmp_path: Path, unbuffered: str) -> None:
    """Its disk is full: engines are served, may come back, and the stop is clean."""
    server = Server(tmp_path, log=Path("/dev/full"), env={"PYTHONUNBUFFERED": unbuffered})
    try:
        for _ in range(2):
            with EngineStream.connected(server.control) as engine:
                assert engine.plan(report(1)).report_sequence == 1
    finally:
        assert server.stop() == 0


def test_a_refused_stream_is_logged(server: Server) -> None:
    """The operator of the controller sees why an engine cannot connect, too."""
    with EngineStream(server.control) as engine:
        engine.send(hello(max_length=99))
        engine.end()
    errors = [event["error"] for event in server.wait_for("stream.refused")]
    assert "hello.max_length: must be from 1 to 64, not 99" in errors


def test_a_deleted_socket_shows_in_health(own_server: Server) -> None:
    """Engines that start now cannot connect: the health check says so, and so does the log."""
    os.unlink(own_server.sockets / "control.sock")
    (event,) = own_server.wait_for("listener.lost")
    assert event["service"] == "turbospec.v1.SpeculationService"
