from __future__ import annotations

import random

from turbospec.adapters.backoff import Backoff


def test_the_delay_doubles_to_two_seconds() -> None:
    """100 ms doubling to 2 s, never more, and jitter takes away at most a quarter."""
    backoff = Backoff(random.Random(1))
    delays = [backoff.next_delay("UNAVAILABLE", 0.0) for _ in range(40)]
    for delay, full in zip(delays, [0.1, 0.2, 0.4, 0.8, 1.6] + [2.0] * 35, strict=True):
        assert 0.75 * full <= delay <= full
    assert len(set(delays)) == len(delays)


def test_it_starts_over_when_something_has_changed() -> None:
    """After a connection that held, or when attempts fail in another way, the next attempt comes at once."""
    backoff = Backoff(random.Random(1))
    for _ in range(10):
        backoff.next_delay("silent", 0.0)
    assert backoff.next_delay("ALREADY_EXISTS", 0.0) <= 0.1
    for _ in range(10):
        backoff.next_delay("ALREADY_EXISTS", 0.5)
    assert backoff.next_delay("ALREADY_EXISTS", 60.0) <= 0.1
