from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading
from collections.abc import Callable

import pytest
from support.controller import SPOILED
from support.controllers import ControllerProcess
from support.stepping import Stepper
from turbospec.adapters.client import ControlClient

StartController = Callable[..., ControllerProcess]

COUNTED_AS = {"other-epoch": "WRONG_EPOCH", "shadow": "SHADOW"}


@pytest.mark.parametrize("behaviour", [*SPOILED, "undecodable"])
def test_bad_plans_are_ignored_and_counted(
    behaviour: str, client: ControlClient, start_controller: StartController, caplog: pytest.LogCaptureFixture
) -> None:
    """A plan that cannot be right is never applied; it is counted by reason and logged once."""
    start_controller(behaviour)
    stepper = Stepper(client)
    reason = COUNTED_AS.get(behaviour, "INVALID_PLAN")
    stepper.run_until(lambda: client.fallbacks().get(reason, 0) >= 5)
    assert stepper.plan is None
    assert not client.disabled
    assert len([r for r in caplog.records if "ignored what" in r.message]) == (behaviour != "shadow")


def test_a_flood_of_plans_is_left(client: ControlClient, start_controller: StartController) -> None:
    """A controller that sends without being asked is left, with growing pauses, and the engine goes on."""
    controller = start_controller("floods")
    stepper = Stepper(client)
    stepper.run_until(lambda: len(controller.received("hello")) >= 3)
    assert client.fallbacks()["INVALID_PLAN"] < 1000, "most of the flood was not even read"


@pytest.mark.parametrize("behaviour", ["closes", "refuses"])
def test_streams_that_end_at_once_are_not_hammered(
    behaviour: str, client: ControlClient, start_controller: StartController, caplog: pytest.LogCaptureFixture
) -> None:
    """The pauses between attempts double, and the log says why it failed once, not per attempt."""
    controller = start_controller(behaviour)
    stepper = Stepper(client, seconds=0.01)
    stepper.run_until(lambda: len(controller.received("hello")) >= 6)
    pauses = [later - earlier for earlier, later in itertools.pairwise(controller.times("hello"))]
    # Jitter takes away at most a quarter; a busy machine only adds.
    for pause, full in zip(pauses, (0.1, 0.2, 0.4, 0.8, 1.6), strict=False):
        assert pause >= 0.75 * full
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING and "not controlled" in r.message]
    assert len({r.message for r in warnings}) == len(warnings)
    if behaviour == "refuses":
        assert any("hello.max_length is 4711" in r.message for r in warnings)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\xff" * 500, b""])
def test_a_server_that_does_not_speak_grpc(answer: bytes, client: ControlClient, address: str) -> None:
    """Something else listens at the address: the engine runs on its own length and the client stays calm."""
    accepted = 0

    def serve(listener: socket.socket) -> None:
        nonlocal accepted
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            accepted += 1
            with connection, contextlib.suppress(OSError):
                connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address.removeprefix("unix:"))
        listener.listen()
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        stepper = Stepper(client, seconds=0.005)
        stepper.run_until(lambda: accepted > 0)
        stepper.run(300)
        listener.shutdown(socket.SHUT_RDWR)
    assert client.fallbacks() == {"DISCONNECTED": stepper.steps}
    assert not client.disabled
