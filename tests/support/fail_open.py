"""What must hold of any engine's server while its controller is not there, dies, hangs or lies."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from support.controllers import ControllerProcess
from support.patience import Watch, wait_until
from support.sidecar import Sidecar
from support.vllm_server import Completes, Load

CONTROLLED_AGAIN_SECONDS = 3.0
STOPPED_SECONDS = 10.0
# A request that takes longer counts as lost, by the same measure in the negative control. Usually it takes
# half a second.
ANSWER_SECONDS = 15.0


def is_controlled(sidecar: Sidecar) -> bool:
    return any(engine.get("controlled", False) for engine in sidecar.engines())


def wait_controlled_again(sidecar: Sidecar) -> None:
    with Watch() as watch:
        wait_until(lambda: is_controlled(sidecar), "controlled again")
    assert watch.seconds < CONTROLLED_AGAIN_SECONDS


def check_serves_alone(server: Completes) -> None:
    """Without a controller every request is answered, within ANSWER_SECONDS."""
    with Load(server, timeout=ANSWER_SECONDS) as load:
        wait_until(lambda: load.answered >= 8, "answering", ANSWER_SECONDS)
    assert load.failures == []


def check_kill_loses_no_request(server: Completes, directory: Path) -> None:
    """kill -9 under load: every request is answered, and a new controller is in control soon.

    The engine looks for its controller at `directory`/control.sock.
    """
    sidecar = Sidecar(directory, "static:2")
    try:
        with Load(server, timeout=ANSWER_SECONDS) as load:
            wait_until(lambda: is_controlled(sidecar), "controlled")
            sidecar.kill()
            enough = load.answered + 8  # those that are on their way at the kill, and as many again
            wait_until(lambda: load.answered > enough, "answering after the kill", ANSWER_SECONDS)
            sidecar.start("static:2")
            wait_controlled_again(sidecar)
        assert load.failures == []
    finally:
        sidecar.stop()


def check_stop_loses_no_request(server: Completes, directory: Path) -> None:
    """SIGSTOP under load: every request is answered meanwhile, and control is back soon after SIGCONT."""
    sidecar = Sidecar(directory, "static:2")
    try:
        with Load(server, timeout=ANSWER_SECONDS) as load:
            wait_until(lambda: is_controlled(sidecar), "controlled")
            sidecar.signal(signal.SIGSTOP)
            enough, over = load.answered + 8, time.monotonic() + STOPPED_SECONDS
            wait_until(lambda: load.answered > enough, "answering while it is stopped", ANSWER_SECONDS)
            time.sleep(max(0.0, over - time.monotonic()))
            sidecar.signal(signal.SIGCONT)
            wait_controlled_again(sidecar)
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
