from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable

import pytest
from support.controller import SPOILED
from support.controllers import ControllerProcess
from support.stepping import Stepper, make_hello
from turbospec.adapters.backoff import FIRST_SECONDS, LONGEST_SECONDS
from turbospec.adapters.client import ControlClient
from turbospec.v1 import speculation_pb2 as pb

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


def doublings(attempts: list[float]) -> int:
    """How often in a row the pause between attempts at these times doubled, as far as it must."""
    row, full = 0, FIRST_SECONDS
    for earlier, later in itertools.pairwise(attempts):
        # Jitter takes away at most a quarter; a busy machine only adds.
        assert later - earlier >= 0.75 * full
        row, full = row + 1, 2 * full
        if full > LONGEST_SECONDS:
            break
        if later - earlier >= LONGEST_SECONDS:
            # The controller stood still: an attempt that lasted so long begins a new row.
            row, full = 0, FIRST_SECONDS
    return row


@pytest.mark.parametrize("behaviour", ["closes", "refuses"])
def test_streams_that_end_at_once_are_not_hammered(
    behaviour: str, address: str, start_controller: StartController, caplog: pytest.LogCaptureFixture
) -> None:
    """The pauses between attempts double, and the log says why it failed once, not per attempt."""
    start_controller(behaviour)
    attempts: list[float] = []

    def hello() -> pb.Hello:
        attempts.append(time.monotonic())
        return make_hello()

    client = ControlClient(address, hello)
    client.start()
    stepper = Stepper(client, seconds=0.01)
    stepper.run_until(lambda: doublings(attempts) == 5)
    client.close()
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
