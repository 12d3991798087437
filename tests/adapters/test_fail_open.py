from __future__ import annotations

import threading
import time
from collections.abc import Callable

from support.blocking_client import BlockingClient
from support.controllers import ControllerProcess
from support.patience import PATIENCE_SECONDS, Watch, assert_within, wait_unchanged
from support.stepping import Stepper, make_hello
from turbospec.adapters.client import ControlClient
from turbospec.adapters.exchange import QUEUE_LIMIT
from turbospec.adapters.session import WINDOW

StartController = Callable[..., ControllerProcess]

STEPS_WHILE_STOPPED = 400


def run_while_stopped(
    client: ControlClient, controller: ControllerProcess
) -> tuple[Stepper, threading.Thread]:
    """Controls an engine and stops the controller; the engine, now a thread, runs on if it can."""
    client.start()
    stepper = Stepper(client)
    stepper.run_until_controlled()
    controller.pause()
    engine = threading.Thread(target=stepper.run, args=(STEPS_WHILE_STOPPED,), daemon=True)
    engine.start()
    return stepper, engine


def test_an_engine_never_waits_for_a_stopped_controller(
    address: str, start_controller: StartController
) -> None:
    """While the controller is stopped, hundreds of steps finish, and plans expire."""
    controller = start_controller()
    client = ControlClient(address, make_hello)
    stepper, engine = run_while_stopped(client, controller)
    engine.join(PATIENCE_SECONDS)
    assert not engine.is_alive()
    stepper.run_until(lambda: client.fallbacks().get("EXPIRED", 0) > 50)
    assert stepper.plan is None

    def seconds_until_controlled() -> float:
        controller.pause()
        stepper.run_until(lambda: stepper.plan is None)
        controller.resume()
        with Watch() as watch:
            stepper.run_until_controlled()
        return watch.seconds

    assert_within(3.0, seconds_until_controlled)
    client.close()


def test_the_test_above_detects_a_client_that_waits(address: str, start_controller: StartController) -> None:
    """The negative control: with a client that waits on the engine's thread the steps do not finish."""
    controller = start_controller()
    client = BlockingClient(address, make_hello)
    stepper, engine = run_while_stopped(client, controller)
    # Less than the time after which the stream counts as dead: this client would wait for a plan for ever.
    wait_unchanged(lambda: stepper.steps, 1.5)
    assert engine.is_alive()
    controller.resume()
    engine.join(PATIENCE_SECONDS)
    assert not engine.is_alive(), "it waited for nothing else"
    client.close()


def test_a_stopped_controller_is_in_control_again_soon(
    client: ControlClient, start_controller: StartController
) -> None:
    """SIGSTOP: nothing piles up meanwhile, and control is back within 3 s, without a replay."""
    controller = start_controller()
    stepper = Stepper(client)
    stepper.run_until_controlled()

    def seconds_until_controlled() -> float:
        controller.pause()
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            stepper.run(10)
            assert len(client._exchange.queue) < QUEUE_LIMIT / 4
        stepper.run_until(lambda: stepper.plan is None)
        reported = len(controller.received("report"))
        controller.resume()
        with Watch() as watch:
            stepper.run_until_controlled()
        assert len(controller.received("report")) - reported < 100, "no backlog is replayed step by step"
        return watch.seconds

    assert_within(3.0, seconds_until_controlled)
    assert client.connected


def test_a_controller_that_never_answers(client: ControlClient, start_controller: StartController) -> None:
    """It takes reports and says nothing: few are sent, the rest is summed, and the stream is given up."""
    controller = start_controller("mute")
    stepper = Stepper(client)
    stepper.run_until(lambda: len(controller.received("hello")) >= 2)
    reports, connections = len(controller.received("report")), len(controller.received("hello"))
    assert reports <= WINDOW * connections
    assert client.fallbacks()["NO_PLAN"] > 100
    assert client.counters().dropped_steps > 100
