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
        self._preempted = False
        self._waiting_steps = 0
        self._since = time.monotonic()

    def add(self, step: Step) -> None:
        """One step of the engine."""
        # Of reports that are not only ours it cannot be told why somebody waits.
        ours = step.labelled_requests == step.requests
        if ours and PREEMPTION in step.disturbances:
            self._preempted = True
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
