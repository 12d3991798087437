from __future__ import annotations

import threading
import time
from collections.abc import Callable

from support.blocking_client import BlockingClient
from support.controllers import ControllerProcess
from support.stepping import Stepper, make_hello
from turbospec.adapters.client import ControlClient
from turbospec.adapters.exchange import QUEUE_LIMIT

StartController = Callable[..., ControllerProcess]

STEPS_WHILE_STOPPED = 400


def run_while_stopped(
    client: ControlClient, controller: ControllerProcess
) -> tuple[Stepper, threading.Thread]:
    """Controls an engine, stops the controller, and lets the engine run on in a thread of its own."""
    client.start()
    stepper = Stepper(client)
    stepper.run_until_controlled(within=3.0)
    controller.pause()
    engine = threading.Thread(target=stepper.run, args=(STEPS_WHILE_STOPPED,), daemon=True)
    engine.start()
    engine.join(timeout=3.0)  # less than the time after which the stream counts as dead
    return stepper, engine


def test_an_engine_never_waits_for_a_stopped_controller(
    address: str, start_controller: StartController
) -> None:
    """While the controller is stopped, hundreds of steps finish, and plans expire."""
    controller = start_controller()
    client = ControlClient(address, make_hello)
    stepper, engine = run_while_stopped(client, controller)
    assert not engine.is_alive()
    assert stepper.plan is None
    assert client.fallbacks()["EXPIRED"] > 50
    controller.resume()
    stepper.run_until_controlled(within=3.0)
    client.close()


def test_the_test_above_detects_a_client_that_waits(address: str, start_controller: StartController) -> None:
    """The negative control: with a client that waits on the engine's thread the steps do not finish."""
    controller = start_controller()
    client = BlockingClient(address, make_hello)
    _, engine = run_while_stopped(client, controller)
    assert engine.is_alive()
    controller.resume()
    engine.join(timeout=10.0)
    assert not engine.is_alive(), "it waited for nothing else"
    client.close()


def test_a_stopped_controller_is_in_control_again_soon(
    client: ControlClient, start_controller: StartController
) -> None:
    """SIGSTOP: nothing piles up meanwhile, and control is back within 3 s, without a replay."""
    controller = start_controller()
    stepper = Stepper(client)
    stepper.run_until_controlled(within=3.0)
    controller.pause()
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        stepper.run(10)
        assert len(client._exchange.queue) < QUEUE_LIMIT / 4
    assert stepper.plan is None
    reported = len(controller.received("report"))
    controller.resume()
    stepper.run_until_controlled(within=3.0)
    assert len(controller.received("report")) - reported < 100, "no backlog is replayed step by step"
    assert client.connected


def test_a_controller_that_never_answers(client: ControlClient, start_controller: StartController) -> None:
    """It takes reports and says nothing: few are sent, the rest is summed, and the stream is given up."""
    controller = start_controller("mute")
    stepper = Stepper(client)
    stepper.run_until(lambda: len(controller.received("hello")) >= 2, within=8.0)
    assert len(controller.received("report")) <= 40
    assert client.fallbacks()["NO_PLAN"] > 100
    assert client.counters().dropped_steps > 100
