"""Time in tests: how long to wait for what must come, and bounds that hold on a machine that stalls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from statistics import median

# For what must come. Only a test that fails waits as long, so it may be many times the usual.
PATIENCE_SECONDS = 120.0

_TICK_SECONDS = 0.02
_LATE_SECONDS = 0.1
# What one look at a condition counts for at most. Asking may itself take long, so it is more than a tick.
_LONGEST_LOOK_SECONDS = 2.0


def wait_until(
    condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS, *, every: float = 0.02
) -> None:
    """Returns once `condition` holds, asking `every` so many seconds. Fails with `what` after `seconds`.

    Seconds in which the machine stood still do not count.
    """
    waited, last = 0.0, time.monotonic()
    while not condition():
        assert waited < seconds, f"not {what} within {seconds:g} s"
        time.sleep(every)
        now = time.monotonic()
        waited += min(now - last, _LONGEST_LOOK_SECONDS)
        last = now


def wait_unchanged(value: Callable[[], object], seconds: float) -> None:
    """Returns once `value` has been the same for so many seconds in which the machine ran."""
    seen, last, still = value(), time.monotonic(), 0.0
    while still < seconds:
        time.sleep(_TICK_SECONDS)
        now = time.monotonic()
        still = still + min(now - last, _LATE_SECONDS) if value() == seen else 0.0
        seen, last = value(), now


def assert_within(seconds: float, trial: Callable[[], float]) -> None:
    """Fails where `trial`, which returns how long something took, says `seconds` or more.

    Then it is asked twice more, and most of the three count: a machine may hold up one of the processes that
    take part, which `Watch` does not see. A program that is too slow is so each time.
    """
    took = [trial()]
    if took[0] >= seconds:
        took += [trial(), trial()]
    assert median(took) < seconds, took


class Watch:
    """Measures the seconds of a block, without those in which the machine did not run this process.

    "Within 3 s" promises what the program does, not what a busy machine lets it do. A thread ticks meanwhile,
    and of a tick that comes far too late only the usual part counts; the rest are `lost_seconds`.
    """

    def __init__(self) -> None:
        self.seconds = self.lost_seconds = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def _tick(self) -> None:
        last = time.monotonic()
        while not self._done.wait(_TICK_SECONDS):
            now = time.monotonic()
            ran = min(now - last, _LATE_SECONDS)
            self.seconds += ran
            self.lost_seconds += now - last - ran
            last = now

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
