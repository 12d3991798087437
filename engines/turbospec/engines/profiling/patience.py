"""Telling requests that wait for a place in the engine from those that are about to get one."""

from __future__ import annotations

import time

from turbospec.engines.profiling.sorting import PREEMPTION, PREFILL, Step
from turbospec.engines.profiling.wave import Wave

# Requests that still wait so long after the last prompt was computed find no place.
_WAITING_STEPS, _WAITING_SECONDS = 64, 5.0


class Patience:
    """Follows the steps of one wave."""

    def __init__(self, wave: Wave) -> None:
        self._wave = wave
        self._alone = True
        self._preempted = False
        self._waiting_steps = 0
        self._since = time.monotonic()

    def add(self, step: Step) -> None:
        """One step of the engine."""
        # With others in the engine it cannot be told why somebody waits or is turned out.
        ours = step.labelled_requests == step.requests
        self._alone = self._alone and (ours or step.steps > 1)
        if self._alone and PREEMPTION in step.disturbances:
            self._preempted = True
        # Of several steps in one report the counts are sums.
        if step.steps > 1:
            return
        if not ours or PREFILL in step.disturbances or step.requests == self._wave.load.requests:
            self._waiting_steps, self._since = 0, time.monotonic()
        else:
            self._waiting_steps += 1

    @property
    def no_place(self) -> bool:
        """Whether requests of the wave find none, or are turned out."""
        waits = self._waiting_steps >= _WAITING_STEPS and not self._wave.ended
        return self._preempted or (waits and time.monotonic() - self._since >= _WAITING_SECONDS)
