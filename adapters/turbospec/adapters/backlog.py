"""Steps that wait to be reported, summed where the connection lags, in bounded memory."""

from __future__ import annotations

from turbospec.adapters.counters import Counters
from turbospec.adapters.reports import OpenedRequest, StepRecord
from turbospec.adapters.slots import SlotTable
from turbospec.v1 import speculation_pb2 as pb

# One report stays far below gRPC's default message limit of 4 MiB, and the steps in it are recent: a
# controller that lagged for longer learns nothing from what was true before.
MAX_STEPS = 256
MAX_ENTRIES = 8192

# The protocol's limits on text, in bytes.
_MAX_REQUEST_ID_BYTES = 256
_MAX_LABEL_BYTES = 64


class Backlog:
    """Takes every step in order, gives reports. Used by the client's threads, under their lock.

    Without a connection it only follows which requests are live. On a connection steps are numbered from
    1, and those that wait at the same time become one report: counts are summed, entries concatenated.
    Past `MAX_STEPS` or `MAX_ENTRIES` the oldest steps are given up and counted; which requests entered
    and left is never lost.
    """

    def __init__(self, counters: Counters) -> None:
        self.slots = SlotTable()
        self.sequence = 0
        self.sent_sequence = 0
        self._counters = counters
        self._epoch: int | None = None
        self._pending = pb.StepReport()
        self._opened: dict[int, OpenedRequest] = {}
        self._closed: dict[int, None] = {}
        self._reported_counters = pb.AdapterCounters()

    def begin(self, epoch: int) -> list[pb.RequestOpened]:
        """A connection starts: numbers steps and slots anew and returns the live requests."""
        self.end()
        self._epoch = epoch
        self.sequence = self.sent_sequence = 0
        self._reported_counters = pb.AdapterCounters()
        return [_opened_message(slot, request) for slot, request in self.slots.renumber()]

    def end(self) -> None:
        """The connection is lost, and with it what was not sent."""
        self._counters.dropped_steps += self._pending.steps
        self._epoch = None
        self._pending = pb.StepReport()
        self.slots.release(self._closed)
        self._opened.clear()
        self._closed.clear()

    def absorb(self, record: StepRecord) -> None:
        """Takes one step."""
        if self._epoch is None:
            for event in record.events:
                self._follow(event)
            return
        record.derive()
        self.sequence += 1
        if self._pending.steps:
            entries = len(self._pending.slots) + len(record.request_ids)
            if self._pending.steps >= MAX_STEPS or entries > MAX_ENTRIES:
                self._give_up_pending()
        just_closed: dict[str, int] = {}
        for event in record.events:
            slot = self._follow(event)
            if isinstance(event, str) and slot is not None:
                just_closed[event] = slot
        self._add_step(record)
        self._add_entries(record, just_closed)

    def take(self) -> bytes | None:
        """Everything that waits, as one serialised ControlRequest, None where nothing does."""
        report = self._pending
        if not report.steps:
            return None
        report.sequence = self.sent_sequence = self.sequence
        report.opened.extend(_opened_message(slot, request) for slot, request in self._opened.items())
        report.closed_slots.extend(self._closed)
        self.slots.release(self._closed)
        self._counters.coalesced_steps += report.steps - 1
        counters = self._counters.message()
        if counters != self._reported_counters:
            report.counters.CopyFrom(counters)
            self._reported_counters = counters
        self._pending = pb.StepReport()
        self._opened.clear()
        self._closed.clear()
        return pb.ControlRequest(report=report).SerializeToString()

    def _follow(self, event: OpenedRequest | str) -> int | None:
        """Opens or closes a request; the slot that it has or had."""
        if isinstance(event, OpenedRequest):
            self._close(event.request_id)  # an engine may use an id again
            slot = self.slots.open(event, self.sequence)
            if self._epoch is not None:
                self._opened[slot] = event
            return slot
        return self._close(event)

    def _close(self, request_id: str) -> int | None:
        slot = self.slots.close(request_id)
        if slot is None:
            return None
        if self._epoch is None:
            self.slots.release((slot,))
        else:
            self._closed[slot] = None
        return slot

    def _add_step(self, record: StepRecord) -> None:
        pending, plan = self._pending, record.plan
        pending.steps += 1
        pending.requests += record.requests
        # A sum that leaves out a step would be read as a faster engine, and one of steps with and without the
        # drafter as either.
        alike = pending.duration_ns > 0 and pending.drafter_skipped == record.drafter_skipped
        measured = record.duration_ns > 0 and (alike or pending.steps == 1)
        pending.duration_ns = pending.duration_ns + record.duration_ns if measured else 0
        pending.prefill_tokens += record.prefill_tokens
        pending.emitted_tokens += record.emitted_tokens
        for disturbance in record.disturbances:
            if disturbance not in pending.disturbances:
                pending.disturbances.append(disturbance)  # type: ignore[arg-type]
        # What holds for a moment is that of the last step.
        pending.proposal_length = record.proposal_length
        pending.drafter_skipped = record.drafter_skipped
        if record.unready or pending.unready_slots:
            pending.unready_slots[:] = [s for s in self.slots.slots_of(record.unready) if s is not None]
        if record.kv_cache_usage_ratio is not None:
            pending.kv_cache_usage_ratio = record.kv_cache_usage_ratio
        if plan is not None and plan.epoch == self._epoch:
            pending.plan_version = plan.version
            pending.plan_age_steps = self.sequence - plan.report_sequence
        else:
            pending.plan_version = 0
            pending.ClearField("plan_age_steps")

    def _add_entries(self, record: StepRecord, just_closed: dict[str, int]) -> None:
        slots = self.slots.slots_of(record.request_ids)
        if None in slots:
            slots = [
                just_closed.get(request_id) if slot is None else slot
                for request_id, slot in zip(record.request_ids, slots, strict=True)
            ]
        columns = (slots, record.proposed, record.verified, record.accepted, record.context_tokens)
        if None in slots:
            rows = [row for row in zip(*columns, strict=True) if row[0] is not None]
            self._counters.ignored_entries += len(slots) - len(rows)
            columns = tuple(map(list, zip(*rows, strict=True))) if rows else ([], [], [], [], [])  # type: ignore[assignment]
        pending = self._pending
        pending.slots.extend(columns[0])  # type: ignore[arg-type]
        pending.proposed.extend(columns[1])
        pending.verified.extend(columns[2])
        pending.accepted.extend(columns[3])
        pending.context_tokens.extend(columns[4])

    def _give_up_pending(self) -> None:
        self._counters.dropped_steps += self._pending.steps
        self._pending = pb.StepReport()
        # Requests that came and went meanwhile are nobody's business any more.
        gone = [slot for slot in self._closed if slot in self._opened]
        for slot in gone:
            del self._opened[slot], self._closed[slot]
        self.slots.release(gone)


def _opened_message(slot: int, request: OpenedRequest) -> pb.RequestOpened:
    message = pb.RequestOpened(
        slot=slot,
        request_id=_clip(request.request_id, _MAX_REQUEST_ID_BYTES),
        label=_clip(request.label, _MAX_LABEL_BYTES),
        prompt_tokens=request.prompt_tokens,
    )
    if request.max_draft is not None:
        message.max_draft = request.max_draft
    return message


def _clip(text: str, limit: int) -> str:
    """Callers choose ids and labels, so they may be longer than the protocol allows, or not encodable."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")
