"""Realised goodput beside what was predicted and what idling would give, over the same steps."""

from __future__ import annotations

from turbospec.sidecar.core.clocks import decay
from turbospec.sidecar.core.snapshots import GoodputSnapshot

# "Recent": seconds of decoding, enough to average over the luck of single steps.
HALF_LIFE_STEPS = 100.0


class _Rate:
    """Tokens per second, forgetful."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0

    def add(self, tokens: float, seconds: float, keep: float) -> None:
        self._tokens = keep * self._tokens + tokens
        self._seconds = keep * self._seconds + seconds

    @property
    def value(self) -> float | None:
        return self._tokens / self._seconds if self._seconds else None


class GoodputMeter:
    """Averages over undisturbed steps, weighted by their measured time."""

    def __init__(self) -> None:
        self._realised, self._predicted, self._idle = _Rate(), _Rate(), _Rate()
        self._verified = self._accepted = 0.0
        self._probe_seconds = self._seconds = 0.0
        self.probe_steps = 0

    def add_report(
        self, emitted: int, seconds: float, predicted: float | None, idle: float | None, steps: int
    ) -> None:
        """Undisturbed steps; `predicted` and `idle` in tokens/s, None where not known."""
        keep = decay(HALF_LIFE_STEPS) ** steps
        self._realised.add(emitted, seconds, keep)
        if predicted is not None:
            self._predicted.add(predicted * seconds, seconds, keep)
        if idle is not None:
            self._idle.add(idle * seconds, seconds, keep)

    def add_drafts(self, verified: int, accepted: int, steps: int) -> None:
        """Drafts of one report."""
        keep = decay(HALF_LIFE_STEPS) ** steps
        self._verified = keep * self._verified + verified
        self._accepted = keep * self._accepted + accepted

    def add_time(self, seconds: float, probing: bool, steps: int) -> None:
        """Step time, disturbed or not."""
        # Probes are two steps in two hundred: this average must be longer than their interval.
        keep = decay(20 * HALF_LIFE_STEPS) ** steps
        self._seconds = keep * self._seconds + seconds
        self._probe_seconds = keep * self._probe_seconds + (seconds if probing else 0.0)
        if probing:
            self.probe_steps += steps

    @property
    def acceptance_ratio(self) -> float | None:
        """Drafts accepted over verified; None until one was verified."""
        return self._accepted / self._verified if self._verified else None

    @property
    def probe_time_ratio(self) -> float:
        """Step time spent on probes over all step time."""
        return self._probe_seconds / self._seconds if self._seconds else 0.0

    def snapshot(self) -> GoodputSnapshot:
        """The three averages."""
        return GoodputSnapshot(self._realised.value, self._predicted.value, self._idle.value)
