"""The negative control of the fail-open tests: a client that does what no client may do.

It asks the controller and waits for the answer on the engine's thread. A fail-open test that passes with
it tests nothing.
"""

from __future__ import annotations

import time

from turbospec.adapters.client import ControlClient
from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import StepRecord


class BlockingClient(ControlClient):
    """`current` returns only when the step submitted last was answered."""

    _awaited = False
    _before: AppliedPlan | None = None

    def submit(self, record: StepRecord) -> None:
        self._before = self._exchange.plan
        super().submit(record)
        self._awaited = True

    def current(self) -> AppliedPlan | None:
        while self._awaited and self._exchange.plan in (None, self._before):
            time.sleep(0.0005)
        self._awaited = False
        return super().current()
