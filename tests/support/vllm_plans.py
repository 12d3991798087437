"""What steps with a plan show, on a machine that may stand still: as long as it does, plans expire."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from support.patience import wait_until
from support.sidecar import Sidecar
from turbospec.engines.stage import counters

ATTEMPTS = 5
# Of a window's steps. At a length of their own they move its mean by a tenth of a draft.
MOST_UNPLANNED = 0.02

T = TypeVar("T")


def repeated(run: Callable[[], T], enough: Callable[[T], bool]) -> T:
    """The first `run` that had `enough` steps with a plan. What must hold without them too, `run` asserts."""
    for _ in range(ATTEMPTS):
        result = run()
        if enough(result):
            return result
    raise AssertionError(f"too few steps with a plan in each of {ATTEMPTS} runs")


def mean_length(url: str, drafted: int) -> float:
    """Draft tokens that a server under load verifies per request and step, by vLLM's own counters.

    Over the next `drafted` of them and more.
    """
    before = counters.read(url)
    wait_until(lambda: counters.read(url).since(before).drafted >= drafted, "drafting")
    length = counters.read(url).since(before).mean_length
    assert length is not None
    return length


def planned_mean_length(sidecar: Sidecar, url: str, drafted: int) -> float:
    """The same of steps that had a plan, nearly all of them."""

    def unplanned_and_all() -> tuple[int, int]:
        engines = sidecar.engines()
        unplanned = sum(int(each["count"]) for engine in engines for each in engine.get("fallbacks", []))
        return unplanned, sum(int(engine.get("steps", 0)) for engine in engines)

    def measure() -> tuple[float, bool]:
        unplanned, steps = unplanned_and_all()
        # What the server has counted and what the controller knows are apart by moments: so they are
        # compared over a window more on either side.
        _, length, _ = (mean_length(url, drafted) for _ in range(3))
        unplanned_after, steps_after = unplanned_and_all()
        return length, unplanned_after - unplanned <= MOST_UNPLANNED * (steps_after - steps)

    length, _ = repeated(measure, lambda measured: measured[1])
    return length
