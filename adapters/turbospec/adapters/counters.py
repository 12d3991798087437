"""What the adapter counts about itself.

The engine's thread and the client's threads each add to numbers of their own, so that no addition is
lost and no lock is needed; totals are read whenever they are wanted.
"""

from __future__ import annotations

from turbospec.v1 import speculation_pb2 as pb

_REASONS = max(pb.FallbackReason.values()) + 1


class Counters:
    """Totals since the client was made. Lists are indexed by the protocol's FallbackReason."""

    def __init__(self) -> None:
        # Added to by the engine's thread only.
        self.fallback_steps = [0] * _REASONS
        self.overflowed_steps = 0
        self.memory_limited_steps = 0
        # Added to by the client's threads only, under their lock.
        self.refused_plans = [0] * _REASONS
        self.coalesced_steps = 0
        self.dropped_steps = 0
        self.connections = 0
        # Plan entries and report entries for requests that are no longer, or were never, open.
        self.ignored_entries = 0

    def fallbacks(self) -> dict[str, int]:
        """Steps on the engine's own length plus plans refused, by the name of the reason; no zeros."""
        totals = [steps + plans for steps, plans in zip(self.fallback_steps, self.refused_plans, strict=True)]
        return {name: totals[reason] for name, reason in pb.FallbackReason.items() if totals[reason]}

    def message(self) -> pb.AdapterCounters:
        return pb.AdapterCounters(
            fallbacks=[pb.FallbackCount(reason=reason, count=n) for reason, n in self.fallbacks().items()],
            coalesced_steps=self.coalesced_steps,
            dropped_steps=self.dropped_steps + self.overflowed_steps,
            connections=self.connections,
            memory_limited_steps=self.memory_limited_steps,
        )
