"""Watches the adapter in a running engine, from outside: what its hooks cost, how old their plans are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import thread_time_ns
from typing import Any

_CALIBRATION_CALLS = 2000


class Watch:
    """Adds up the CPU time of an object's methods in the scheduler's thread, step by step, while in place.

    What an empty method costs under the same watch is taken off (`clock_ns` for each call). What the engine
    pays besides, such as colder caches and waiting for the GIL, is in the dilation, not here.
    """

    def __init__(self, watched: object, methods: Sequence[str]) -> None:
        """`methods` by name: the hooks of the adapter's EngineControl, or what else is called in steps."""
        self.clock_ns = _clock_ns()
        self._watched = watched
        self._spent = self._calls = 0
        self._restore = {name: getattr(watched, name) for name in methods}

    def __enter__(self) -> Watch:
        for name, original in self._restore.items():
            setattr(self._watched, name, self._timed(original))
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._restore:
            delattr(self._watched, name)  # the class's own comes back

    def start(self) -> None:
        """A step begins."""
        self._spent = self._calls = 0

    def spent_ns(self) -> float:
        """Since `start`, after one step."""
        return max(self._spent - self._calls * self.clock_ns, 0.0)

    def _timed(self, method: Callable[..., None]) -> Callable[..., None]:
        def timed(*args: Any, **kwargs: Any) -> None:
            thread_time_ns()  # brings the clock's own code back into the caches
            began = thread_time_ns()
            method(*args, **kwargs)
            self._spent += thread_time_ns() - began
            self._calls += 1

        return timed


def _clock_ns() -> float:
    def nothing(*_: Any, **__: Any) -> None:
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
