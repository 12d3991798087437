"""`turbospec demo`, interrupted: with any engine nothing stays."""

from __future__ import annotations

import signal
import subprocess
import time

import psutil
import pytest
from support.patience import PATIENCE_SECONDS, wait_until


def check_interrupted_leaves_no_process(
    demo: subprocess.Popen[str], phase: str, number: signal.Signals, at_least: int
) -> None:
    """Sends a signal in the middle of a phase, by which `at_least` so many processes were started.

    `demo`: with its output in a pipe.
    """
    assert demo.stdout is not None
    output = []
    for line in demo.stdout:
        output.append(line)
        if phase in line:
            break
    else:
        pytest.fail(f"{phase!r} was never reached: {''.join(output)}")

    def children() -> list[psutil.Process]:
        return psutil.Process(demo.pid).children(recursive=True)

    wait_until(lambda: len(children()) >= at_least, f"{at_least} processes started")
    # In the middle of it, not at its first moment.
    time.sleep(1.0)
    started = children()
    demo.send_signal(number)
    rest, _ = demo.communicate(timeout=PATIENCE_SECONDS)
    if number != signal.SIGKILL:
        assert demo.returncode == 130, rest
        assert "interrupted" in rest
    # Of a demonstration that was killed, the children's keepers do the ending.
    _, alive = psutil.wait_procs(started, timeout=PATIENCE_SECONDS)
    assert alive == []
