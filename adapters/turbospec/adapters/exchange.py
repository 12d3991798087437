"""What the engine's thread and the client's threads share.

The engine's thread appends to `queue` and reads `plan`; it takes no lock. It wakes the thread that
writes reports only where that one said that it sleeps (`writer_sleeps`), through a `SimpleQueue`, whose
`put` is one C call that never blocks and does not give up the GIL.
"""

from __future__ import annotations

import time
from collections import deque
from queue import SimpleQueue

from turbospec.adapters.counters import Counters
from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import StepRecord
from turbospec.v1 import speculation_pb2 as pb

# The client's threads empty the queue at least four times a second; this is some seconds of the fastest
# engine, and little memory.
QUEUE_LIMIT = 4096


class Exchange:
    """One attribute in each direction, and the engine's side of the counting."""

    __slots__ = ("absence", "counters", "open", "plan", "queue", "wake", "writer_sleeps")

    def __init__(self) -> None:
        self.queue: deque[StepRecord] = deque()
        self.plan: AppliedPlan | None = None
        # Why `plan` is None.
        self.absence: pb.FallbackReason = pb.FALLBACK_REASON_DISCONNECTED
        self.wake: SimpleQueue[None] = SimpleQueue()
        self.writer_sleeps = False
        # False: nobody empties the queue any more.
        self.open = True
        self.counters = Counters()

    def submit(self, record: StepRecord) -> bool:
        """Engine's thread. False where the queue is full or nobody reads it: the record was not taken."""
        if not self.open:
            return False
        if len(self.queue) >= QUEUE_LIMIT:
            self.counters.overflowed_steps += 1
            return False
        self.queue.append(record)
        if self.writer_sleeps:
            self.writer_sleeps = False
            self.wake.put(None)
        return True

    def current(self) -> AppliedPlan | None:
        """Engine's thread. The newest plan if it is valid now; else None, counted by reason."""
        plan = self.plan
        if plan is None:
            self.counters.fallback_steps[self.absence] += 1
            return None
        if time.monotonic() >= plan.expires_at:
            self.counters.fallback_steps[pb.FALLBACK_REASON_EXPIRED] += 1
            return None
        return plan

    def withdraw(self, reason: pb.FallbackReason) -> None:
        """Client's threads. There is no plan from now on, for this reason."""
        self.absence = reason
        self.plan = None

    def shut(self) -> None:
        """Client's threads. Nothing is taken or given any more."""
        self.open = False
        self.withdraw(pb.FALLBACK_REASON_DISCONNECTED)
        self.queue.clear()
