"""Slots: the small integers by which reports and plans name requests on one connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from turbospec.adapters.reports import OpenedRequest


class SlotTable:
    """Which request has which slot, and since which step. Used by the client's threads, under their lock.

    A closed request's slot is free again only after `release`, that is once the report that closes it
    has been written: no report closes and opens the same slot.
    """

    def __init__(self) -> None:
        self._live: dict[str, tuple[int, OpenedRequest]] = {}
        # By slot: the request, and the step in which it was opened.
        self._occupants: dict[int, tuple[str, int]] = {}
        self._free: deque[int] = deque()
        self._next = 0

    def renumber(self) -> list[tuple[int, OpenedRequest]]:
        """Starts a new connection: gives the live requests slots from 0 and returns them."""
        requests = [request for _, request in self._live.values()]
        self._occupants = {slot: (request.request_id, 0) for slot, request in enumerate(requests)}
        self._live = {request.request_id: (slot, request) for slot, request in enumerate(requests)}
        self._free.clear()
        self._next = len(requests)
        return list(enumerate(requests))

    def open(self, request: OpenedRequest, sequence: int) -> int:
        """Gives a slot to a request that is not live; `sequence` is the step in which it entered."""
        if self._free:
            slot = self._free.popleft()
        else:
            slot = self._next
            self._next += 1
        self._live[request.request_id] = (slot, request)
        self._occupants[slot] = (request.request_id, sequence)
        return slot

    def close(self, request_id: str) -> int | None:
        """Forgets a request and returns the slot that it had, None where it is not live."""
        entry = self._live.pop(request_id, None)
        if entry is None:
            return None
        del self._occupants[entry[0]]
        return entry[0]

    def release(self, slots: Iterable[int]) -> None:
        """Makes closed slots free again."""
        self._free.extend(slots)

    def slots_of(self, request_ids: Iterable[str]) -> list[int | None]:
        """The slots of requests, None for each that is not live."""
        entry_of = self._live.get
        return [None if (entry := entry_of(request_id)) is None else entry[0] for request_id in request_ids]

    def request_at(self, slot: int, report_sequence: int) -> str | None:
        """The request that had `slot` at step `report_sequence`, None if it is another by now."""
        occupant = self._occupants.get(slot)
        if occupant is None or occupant[1] > report_sequence:
            return None
        return occupant[0]

    @property
    def given(self) -> int:
        """How many slots this connection has used so far: all below this number, and no other."""
        return self._next

    def __len__(self) -> int:
        return len(self._live)
