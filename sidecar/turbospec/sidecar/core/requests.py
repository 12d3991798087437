"""The live requests of one engine, by slot."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from turbospec.sidecar.core.types import IntArray, Observation, RequestInfo

_COLUMNS = ("live", "cap", "context_tokens", "verified", "accepted", "seen", "unready")


class RequestTable:
    """Live requests and which of them decoded in the newest step.

    Columns have shape (capacity,) and hold 0 at free slots: `live` is 1; `cap` is the caller's, at most the
    engine's longest proposal; `context_tokens` includes what the newest step emitted; `verified` and
    `accepted` are totals; `seen` is 1 for requests that have decoded, `unready` for those that cannot
    speculate because the drafter was skipped while they ran.
    """

    def __init__(self, max_length: int, capacity: int = 64) -> None:
        self._max_length = max_length
        self._live: dict[int, RequestInfo] = {}
        self._decoding = np.array([], dtype=np.int64)
        self.live, self.cap, self.context_tokens, self.verified, self.accepted, self.seen, self.unready = (
            np.zeros(capacity, dtype=np.int64) for _ in _COLUMNS
        )
        self.unready_requests = 0

    def __contains__(self, slot: int) -> bool:
        return slot in self._live

    def __len__(self) -> int:
        return len(self._live)

    def __getitem__(self, slot: int) -> RequestInfo:
        return self._live[slot]

    def first_missing(self, slots: Collection[int], besides: Collection[int]) -> int | None:
        """The first of `slots` that neither a live request nor `besides` has, None where there is none."""
        missing = set(slots).difference(self._live, besides)
        return next(slot for slot in slots if slot in missing) if missing else None

    def decoded_last(self, slots: IntArray) -> bool:
        """Whether the newest step, or what is live of it, had exactly these requests in this order."""
        last = self._decoding
        return slots.size == last.size and not np.count_nonzero(slots != last)

    def infos(self) -> list[RequestInfo]:
        """All live requests."""
        return list(self._live.values())

    def open(self, info: RequestInfo) -> None:
        """Adds a request; its slot is free."""
        if info.slot >= self.cap.size:
            extra = np.zeros(max(info.slot + 1, 2 * self.cap.size) - self.cap.size, dtype=np.int64)
            for name in _COLUMNS:
                setattr(self, name, np.append(getattr(self, name), extra))
        self.live[info.slot] = 1
        self.cap[info.slot] = min(
            self._max_length if info.max_draft is None else info.max_draft, self._max_length
        )
        self._live[info.slot] = info

    def close(self, slots: tuple[int, ...]) -> None:
        """Forgets requests."""
        if not slots:
            return
        for slot in slots:
            del self._live[slot]
        for name in _COLUMNS:
            getattr(self, name)[list(slots)] = 0
        self._decoding = self._decoding[self.live[self._decoding] > 0]

    def observe(self, observation: Observation) -> None:
        """Notes who decoded and what became of their drafts."""
        slots = observation.slots
        self._note_unready(observation.unready_slots)
        if not slots.size:
            return
        self.seen[slots] = 1
        # Of coalesced steps the last entry of a request is its newest.
        self.context_tokens[slots] = observation.context_tokens + observation.accepted + 1
        if observation.steps == 1:
            self.verified[slots] += observation.verified
            self.accepted[slots] += observation.accepted
            self._decoding = slots.copy()
        else:
            np.add.at(self.verified, slots, observation.verified)
            np.add.at(self.accepted, slots, observation.accepted)
            self._decoding = np.unique(slots)

    def batch_slots(self) -> IntArray:
        """Slots expected to decode next: those of the newest step that live, else all that live."""
        return self._decoding if self._decoding.size else self._all()

    def other_named_slots(self, batch: IntArray) -> IntArray:
        """Slots outside `batch` that plans name; the default length is for new requests without a cap."""
        if len(self._live) == batch.size:
            return np.array([], dtype=np.int64)
        waiting = (self.live > 0) & ((self.seen > 0) | (self.cap < self._max_length))
        waiting[batch] = False
        return waiting.nonzero()[0]

    def usable_caps(self, slots: IntArray) -> IntArray:
        """The longest length that each of these requests can use now: its cap, 0 while it is not ready."""
        return (
            np.where(self.unready[slots] > 0, 0, self.cap[slots])
            if self.unready_requests
            else self.cap[slots]
        )

    def longest_cap(self) -> int:
        """The largest cap of any live request; the maximum length where none lives."""
        return int(self.cap.max()) if self._live else self._max_length

    def _note_unready(self, slots: tuple[int, ...]) -> None:
        if self.unready_requests:
            self.unready[:] = 0
        if slots:
            self.unready[list(slots)] = 1
        self.unready_requests = len(slots)

    def _all(self) -> IntArray:
        return np.fromiter(self._live, dtype=np.int64, count=len(self._live))
