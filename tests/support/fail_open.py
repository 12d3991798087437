"""What must hold of any engine's server while its controller is not there, dies, hangs or lies."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from support.controllers import ControllerProcess
from support.patience import Watch, assert_within, wait_until
from support.sidecar import Sidecar
from support.vllm_server import Completes, Load

CONTROLLED_AGAIN_SECONDS = 3.0
STOPPED_SECONDS = 10.0
# A request that takes longer counts as lost, by the same measure in the negative control. Usually it takes
# half a second.
ANSWER_SECONDS = 15.0


def is_controlled(sidecar: Sidecar) -> bool:
    return any(engine.get("controlled", False) for engine in sidecar.engines())


def seconds_until_controlled(sidecar: Sidecar) -> float:
    with Watch() as watch:
        # Every look opens a connection to the sidecar that it waits for.
        wait_until(lambda: is_controlled(sidecar), "controlled", every=0.1)
    return watch.seconds


def wait_answered(load: Load, what: str) -> None:
    """Waits for answers to all requests that are on their way, and to as many again.

    One that is lost is a failure within ANSWER_SECONDS; how long so many of them take depends on the machine.
    """
    enough = load.answered + 8
    wait_until(lambda: load.failures or load.answered > enough, what)
    assert not load.failures, f"not {what}: {load.failures}"


def check_serves_alone(server: Completes) -> None:
    """Without a controller every request is answered, within ANSWER_SECONDS."""
    with Load(server, timeout=ANSWER_SECONDS) as load:
        wait_answered(load, "answering")
    assert load.failures == []


def check_kill_loses_no_request(server: Completes, directory: Path) -> None:
    """kill -9 under load: every request is answered, and a new controller is in control soon.

    The engine looks for its controller at `directory`/control.sock.
    """
    sidecar = Sidecar(directory, "static:2")
    try:
        with Load(server, timeout=ANSWER_SECONDS) as load:

            def kill_and_return() -> float:
                seconds_until_controlled(sidecar)
                sidecar.kill()
                wait_answered(load, "answering after the kill")
                sidecar.start("static:2")
                return seconds_until_controlled(sidecar)

            assert_within(CONTROLLED_AGAIN_SECONDS, kill_and_return)
        assert load.failures == []
    finally:
        sidecar.stop()


def check_stop_loses_no_request(server: Completes, directory: Path) -> None:
    """SIGSTOP under load: every request is answered meanwhile, and control is back soon after SIGCONT."""
    sidecar = Sidecar(directory, "static:2")
    try:
        with Load(server, timeout=ANSWER_SECONDS) as load:

            def stop_and_return() -> float:
                seconds_until_controlled(sidecar)
                sidecar.signal(signal.SIGSTOP)
                over = time.monotonic() + STOPPED_SECONDS
                wait_answered(load, "answering while it is stopped")
                time.sleep(max(0.0, over - time.monotonic()))
                sidecar.signal(signal.SIGCONT)
                return seconds_until_controlled(sidecar)

            assert_within(CONTROLLED_AGAIN_SECONDS, stop_and_return)
        assert load.failures == []
    finally:
        sidecar.stop()


def check_lies_are_ignored(server: Completes, directory: Path, journal: Path, behaviour: str) -> None:
    """Plans that are impossible, or no plans at all, are ignored, counted, and the count is reported."""
    liar = ControllerProcess(f"unix:{directory / 'control.sock'}", behaviour, journal)

    def counted() -> bool:
        return any(
            fallback["reason"] == "FALLBACK_REASON_INVALID_PLAN"
            for report in liar.received("report")
            for fallback in report.get("counters", {}).get("fallbacks", [])
        )

    try:
        with Load(server, timeout=ANSWER_SECONDS) as load:
            wait_until(counted, "counted as an invalid plan")
        assert load.failures == []
        assert load.answered >= 4
        # Not one step ran under its plans.
        assert not any(int(report.get("plan_version", 0)) for report in liar.received("report"))
    finally:
        liar.kill()
        (directory / "control.sock").unlink(missing_ok=True)
