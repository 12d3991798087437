"""Watches the adapter's hooks in a running engine, from outside: what they cost, how old their plans are."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import thread_time_ns
from typing import Any

HOOKS = ("before_schedule", "after_schedule", "before_update", "after_update")
_CALIBRATION_CALLS = 2000


class Watch:
    """Adds up the hooks' CPU time in the scheduler's thread, step by step, while it is in place.

    What an empty hook costs under the same watch is taken off (`clock_ns` for each of a step's hooks). What
    the engine pays besides, such as colder caches and waiting for the GIL, is in the dilation, not here.
    """

    def __init__(self, control: Any) -> None:
        """`control` is the adapter's EngineControl."""
        self.clock_ns = _clock_ns()
        self._control = control
        self._spent = 0
        self._restore = {hook: getattr(control, hook) for hook in HOOKS}

    def __enter__(self) -> Watch:
        for hook, original in self._restore.items():
            setattr(self._control, hook, self._timed(original))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in HOOKS:
            delattr(self._control, hook)  # the class's own comes back

    def start(self) -> None:
        """A step begins."""
        self._spent = 0

    def spent_ns(self) -> float:
        """Since `start`, after one step."""
        return max(self._spent - len(HOOKS) * self.clock_ns, 0.0)

    def _timed(self, hook: Callable[..., None]) -> Callable[..., None]:
        def timed(*args: Any) -> None:
            thread_time_ns()  # brings the clock's own code back into the caches
            began = thread_time_ns()
            hook(*args)
            self._spent += thread_time_ns() - began

        return timed


def _clock_ns() -> float:
    def nothing(*_: Any) -> None:
        return

    spent = []
    for _ in range(_CALIBRATION_CALLS):
        began = thread_time_ns()
        nothing(None, None)
        spent.append(thread_time_ns() - began)
    return median(spent)


class PlanAge:
    """Steps between the report that a step's plan was made from and the step itself; 1 is the least."""

    def __init__(self, control: Any) -> None:
        self._control = control

    def steps(self) -> int | None:
        """Of the step that has just run, reported but not yet read by the client; None without a plan.

        Every step is reported, so the one that has just run is as many after the client's newest as there
        are in the queue.
        """
        client = self._control._controller
        plan = self._control._plan
        with client._lock:  # what the client has taken from the queue it has also numbered
            newest = client._backlog.sequence + len(client._exchange.queue)
        return None if plan is None else newest - plan.report_sequence
