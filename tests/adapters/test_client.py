from __future__ import annotations

import itertools
import logging
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from support.controllers import ControllerProcess
from support.patience import PATIENCE_SECONDS, Watch, assert_within
from support.stepping import MAX_LENGTH, Stepper, make_hello
from turbospec.adapters.client import ControlClient
from turbospec.adapters.exchange import QUEUE_LIMIT
from turbospec.adapters.reports import StepRecord
from turbospec.v1 import speculation_pb2 as pb

StartController = Callable[..., ControllerProcess]
Reports = Callable[[], list[dict[str, Any]]]

ATTEMPTS = 5


def reports_of_one_connection(
    client: ControlClient, start: Callable[[], ControllerProcess], run: Callable[[Reports], None]
) -> tuple[ControllerProcess, list[dict[str, Any]]]:
    """A controller and what it was reported while `run` ran steps, which can ask for what there is so far.

    A controller that stands still for long is given up, as it should: then once more with another one.
    """
    for _ in range(ATTEMPTS):
        before = client.counters().connections
        controller = start()
        old = len(controller.received("report"))

        def reports(controller: ControllerProcess = controller, old: int = old) -> list[dict[str, Any]]:
            return controller.received("report")[old:]

        run(reports)
        if client.connected and client.counters().connections == before + 1:
            return controller, reports()
        controller.kill()
    raise AssertionError("the client does not stay connected")


def check_none_is_missing(reports: list[dict[str, Any]]) -> None:
    """Every step of a connection is in one report, but for those that the client says it gave up.

    It does where a controller answers nothing for long, and counts them from its own beginning.
    """
    reported = dropped = 0
    dropped_before = set()
    for report in reports:
        reported += report["steps"]
        dropped = int(report.get("counters", {}).get("dropped_steps", dropped))
        dropped_before.add(dropped - (int(report["sequence"]) - reported))
    assert len(dropped_before) == 1, dropped_before
    assert min(dropped_before) >= 0, dropped_before


def test_steps_are_reported_and_plans_come_back(
    client: ControlClient, start_controller: StartController
) -> None:
    """Every step arrives once and in order, and the plan made from it names the engine's own requests."""
    stepper = Stepper(client)

    def names_a_live_request() -> bool:
        return stepper.plan is not None and not stepper.plan.verification_lengths.keys().isdisjoint(
            stepper.live
        )

    def run(reports: Reports) -> None:
        stepper.run_until(names_a_live_request)
        plan = stepper.plan
        assert plan is not None
        assert plan.proposal_length == 3
        assert set(plan.verification_lengths.values()) == {3}
        assert plan.verification_length("a request that it does not know") == 2
        stepper.run(200)
        stepper.run_until(lambda: len(reports()) > 100, every=20)

    controller, reports = reports_of_one_connection(client, start_controller, run)
    hello = controller.received("hello")[-1]
    assert hello["protocol_version"] == 1
    assert int(hello["epoch"]) > 0
    check_none_is_missing(reports)
    sequences = [int(report["sequence"]) for report in reports]
    controlled = [report for report in reports if "plan_version" in report]
    assert controlled
    for report in controlled:
        # The controller makes one plan of each report, and numbers both alike.
        assert (
            report["plan_age_steps"] == int(report["sequence"]) - sequences[int(report["plan_version"]) - 1]
        )


def test_reports_are_kept_back_while_nothing_depends_on_them(
    client: ControlClient, start_controller: StartController
) -> None:
    """Told that reports may wait, the client sends few with all steps in them; told to hurry, one by one."""
    stepper = Stepper(client)

    def late(reports: list[dict[str, Any]]) -> list[int]:
        """Those that ran under a plan that allows 200 ms, by their places."""
        return [i for i, report in enumerate(reports) if int(report.get("plan_version", 0)) >= 20]

    def run(reports: Reports) -> None:
        stepper.run_until(lambda: len(late(reports())) > 40, every=20)

    _, reports = reports_of_one_connection(client, lambda: start_controller("unhurried"), run)
    check_none_is_missing(reports)
    # Each after the first under such a plan was kept back, up to the fourth, which the controller waits for.
    first, *_, fourth = late(reports)[:4]
    last, made_at = [stepper.last_step(report) for report in reports], stepper.made_at
    for i in range(first + 1, fourth + 1):
        # It was taken before the step after its last one was reported: whatever stands still only adds.
        assert made_at[last[i] + 2] - made_at[last[i - 1]] >= 0.199
    hurried = [made_at[later] - made_at[earlier] for earlier, later in itertools.pairwise(last[fourth + 1 :])]
    assert median(hurried) <= 0.05


def test_without_a_controller_the_engine_runs_on(client: ControlClient) -> None:
    """No controller: every step is counted as disconnected, and nothing piles up."""
    stepper = Stepper(client, seconds=0.0)
    stepper.run(3 * QUEUE_LIMIT)
    assert client.fallbacks() == {"DISCONNECTED": 3 * QUEUE_LIMIT}
    assert not client.connected
    assert len(client._exchange.queue) <= QUEUE_LIMIT


def test_live_requests_survive_an_overflowing_queue(address: str, start_controller: StartController) -> None:
    """Steps that nobody takes are given up and counted, but who entered and who left is kept."""
    client = ControlClient(address, make_hello)
    stepper = Stepper(client, seconds=0.0)
    stepper.run(2 * QUEUE_LIMIT)  # not started: nobody empties the queue
    assert client.counters().dropped_steps == QUEUE_LIMIT
    stepper.seconds = 0.002
    controller = start_controller()
    client.start()
    try:
        stepper.run_until_controlled()
    finally:
        client.close()
    mirror = {
        r.get("slot", 0): r["request_id"] for r in controller.received("hello")[-1].get("live_requests", [])
    }
    for report in controller.received("report"):
        mirror.update({r.get("slot", 0): r["request_id"] for r in report.get("opened", [])})
        for slot in report.get("closed_slots", []):
            del mirror[slot]
    assert len(mirror) == 4


def number(request_id: str) -> int:
    return int(request_id.removeprefix("request-"))


def test_a_restarted_controller_gets_the_live_requests(
    client: ControlClient, start_controller: StartController
) -> None:
    """After kill -9 and a restart: a new epoch, numbers from 1, all live requests, in control within 3 s."""
    controller = start_controller()
    stepper = Stepper(client)
    stepper.run_until_controlled()
    stepper.run(100)
    oldest = 0

    def seconds_until_controlled() -> float:
        nonlocal controller, oldest
        controller.kill()
        stepper.run_until(lambda: not client.connected)
        stepper.run(300)
        assert client.fallbacks()["DISCONNECTED"] >= 300
        connections, oldest = client.counters().connections, number(stepper.live[0])
        controller = start_controller()
        with Watch() as watch:
            stepper.run_until_controlled()
        # One that stands still for long is given up.
        return watch.seconds if client.counters().connections == connections + 1 else math.inf

    assert_within(3.0, seconds_until_controlled)
    before, *_, after = controller.received("hello")  # on a slow machine one may have been given up
    assert before["epoch"] != after["epoch"]
    # Requests leave in the order in which they came: those live at one moment have adjacent numbers.
    live = sorted(number(request["request_id"]) for request in after["live_requests"])
    assert live == list(range(live[0], live[0] + len(stepper.live)))
    assert oldest <= live[0] <= number(stepper.live[0])


def test_a_draining_controller_is_left_and_found_again(
    client: ControlClient, start_controller: StartController
) -> None:
    """`Drain` ends the connection; the client comes back after the time it was told."""
    controller = start_controller("drains")
    stepper = Stepper(client)
    stepper.run_until(lambda: len(controller.received("hello")) >= 2)
    first, second, *_ = controller.times("hello")
    assert second - first >= 0.3
    assert not client.disabled


@pytest.mark.parametrize("place", ["hello", "record"])
def test_a_fault_disables_the_client_and_is_logged_once(
    place: str, address: str, start_controller: StartController, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in the client's threads: one traceback, no more plans, and the engine goes on."""
    start_controller()

    def broken_hello() -> pb.Hello:
        raise RuntimeError("broken hello")

    client = ControlClient(address, broken_hello if place == "hello" else make_hello)
    client.start()
    stepper = Stepper(client)
    if place == "record":
        stepper.run_until_controlled()
        record = StepRecord()
        record.emitted_tokens = -(10**9)  # no report can hold this
        client.submit(record)
    stepper.run_until(lambda: client.disabled)
    stepper.run(100)
    assert client.current() is None
    faults = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(faults) == 1
    assert faults[0].exc_info is not None
    client.close()


def test_the_proposal_length_of_an_engine_that_cannot_change_it(
    address: str, start_controller: StartController
) -> None:
    """Where the engine always proposes its maximum, a plan says so, whatever the controller wrote."""
    start_controller()

    def hello() -> pb.Hello:
        message = make_hello()
        message.capabilities.proposal_settable = False
        return message

    client = ControlClient(address, hello)
    client.start()
    stepper = Stepper(client)
    plan = stepper.run_until_controlled()
    client.close()
    assert plan.proposal_length == MAX_LENGTH


def test_a_process_with_a_client_can_exit(address: str, start_controller: StartController) -> None:
    """An engine that simply ends is not held up by the client's threads."""
    start_controller()
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from support.stepping import Stepper, make_hello\n"
        "from turbospec.adapters.client import ControlClient\n"
        "client = ControlClient(sys.argv[1], make_hello); client.start()\n"
        "Stepper(client).run_until_controlled()\n"
        "print(flush=True)"
    )
    root = Path(__file__).parents[2]
    paths = [str(root / name) for name in ("proto", "adapters", "tests")]
    command = [sys.executable, "-c", program, address, *paths]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n", "it was controlled"
        with Watch() as watch:
            assert process.wait(PATIENCE_SECONDS) == 0
    assert watch.seconds < 4.0  # `close` gives its thread 5 s


def test_a_client_can_be_told_to_stop_without_waiting(
    client: ControlClient, start_controller: StartController
) -> None:
    """Also with a controller that does not answer any more; what comes after is neither taken nor given."""
    controller = start_controller()
    stepper = Stepper(client)
    stepper.run_until_controlled()
    controller.pause()
    # While its lock is held the client's thread gets nowhere, so that waiting for it would take for ever.
    with client._lock:
        stop = threading.Thread(target=client.stop, daemon=True)
        stop.start()
        with Watch() as watch:
            stop.join(timeout=PATIENCE_SECONDS)
        waiting = len(client._exchange.queue)
    assert watch.seconds < 1.0
    assert client.disabled
    stepper.run(10)
    assert len(client._exchange.queue) <= waiting
    thread = client._thread
    assert thread is not None
    thread.join(timeout=PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert client.current() is None
