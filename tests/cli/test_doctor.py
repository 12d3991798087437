"""`turbospec doctor` says what is wrong and what to do.

Importing vLLM takes it many seconds, so only what is about vLLM is asked where vLLM is.
"""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from support.base_install import with_base_install
from support.serving import turbospec
from support.sidecar import Sidecar


def doctor(control_address: str, **environ: str) -> tuple[int, str]:
    """Exit status and output of `turbospec doctor` where vLLM is not."""
    done = with_base_install("doctor", env={**environ, "TURBOSPEC_CONTROL_ADDRESS": control_address})
    return done.returncode, done.stdout


def doctor_beside_vllm(control_address: str) -> tuple[int, str]:
    """The same in an engine's environment."""
    environ = {"TURBOSPEC_CONTROL_ADDRESS": control_address}
    done = turbospec("doctor", "--engine", "vllm", env=environ, within=500)
    return done.returncode, done.stdout


def test_all_is_well_beside_a_controller(tmp_path: Path) -> None:
    """With a tested vLLM and a live controller no check fails, and the controller keeps no trace.

    vLLM's CPU build has a fault that needs a warning.
    """
    sidecar = Sidecar(tmp_path, "goodput")
    try:
        status, output = doctor_beside_vllm(sidecar.control_address)
        assert sidecar.engines() == []
    finally:
        sidecar.stop()
    assert status == 0, output
    assert "FAIL" not in output
    assert "ok    vllm hooks: all there" in output
    assert "warn  vllm on CPUs: " in output
    assert "greedy requests only" in output
    assert "ok    controller: answers and speaks protocol version 1" in output


def test_a_missing_controller_fails_with_advice(tmp_path: Path) -> None:
    """No socket there: which one, and what to start."""
    status, output = doctor(f"unix:{tmp_path / 'none.sock'}")
    assert status == 1
    assert "warn  vllm: not installed here" in output
    assert "warn  sglang: not installed here" in output
    assert f"FAIL  control socket: {tmp_path / 'none.sock'} does not exist" in output
    assert "turbospec serve" in output


def test_a_dead_controllers_socket_is_told_from_a_live_one(tmp_path: Path) -> None:
    """A socket file that nobody listens at any more."""
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    status, output = doctor(f"unix:{path}")
    assert status == 1
    assert "start it again" in output


def test_a_stopped_controller_fails_in_bounded_time(tmp_path: Path) -> None:
    """It accepts the connection and answers nothing: said, and not waited for for ever."""
    sidecar = Sidecar(tmp_path, "goodput")
    try:
        sidecar.signal(signal.SIGSTOP)
        status, output = doctor(sidecar.control_address)
    finally:
        sidecar.stop()
    assert status == 1
    assert "FAIL  controller: no answer within 15 s" in output


def test_a_wrong_address_is_named() -> None:
    """A relative path is no address; the variable to correct is named."""
    status, output = doctor("unix:control.sock")
    assert status == 1
    assert "FAIL  control address:" in output
    assert "correct TURBOSPEC_CONTROL_ADDRESS" in output


def test_a_file_in_the_sockets_place_is_named(tmp_path: Path) -> None:
    """Something else lies at the path: nothing is opened, and the advice is another one."""
    path = tmp_path / "control.sock"
    path.write_text("")
    status, output = doctor(f"unix:{path}", TURBOSPEC_DISABLE="1")
    assert status == 1
    assert f"{path} is not a socket" in output
    assert "warn  engines: TURBOSPEC_DISABLE=1" in output
