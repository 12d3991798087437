"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.1
# A controller that is back must be in control again within 3 s, so nobody waits longer than this.
LONGEST_SECONDS = 2.0


class Backoff:
    """Doubles from `FIRST_SECONDS` to `LONGEST_SECONDS`, with jitter: many engines do not return at once.

    It starts over after a connection that held, and when attempts begin to fail in another way: that is
    news, such as a controller that answers again and still holds the previous connection.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0
        self._kind = ""

    def next_delay(self, kind: str, held_seconds: float) -> float:
        """Seconds to wait after a connection that was up for `held_seconds` and ended by `kind`."""
        if kind != self._kind or held_seconds >= LONGEST_SECONDS:
            self._failures = 0
        self._kind = kind
        delay: float = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return delay * self._rng.uniform(0.75, 1.0)
