"""Telemetry: what a batch did, noted around SGLang's own processing of its result."""

from __future__ import annotations

from typing import Any

from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import StepRecord
from turbospec.v1 import speculation_pb2 as pb

_AFTER_IDLE = int(pb.DISTURBANCE_AFTER_IDLE)
_PREFILL = int(pb.DISTURBANCE_PREFILL)
_PREEMPTION = int(pb.DISTURBANCE_PREEMPTION)
_GRAMMAR = int(pb.DISTURBANCE_GRAMMAR)


class BatchStep(StepRecord):
    """A batch from its launch to its report. `ended_ns` is 0 until its results are known to be there."""

    __slots__ = ("_live", "_tokens_before", "after_idle", "ended_ns", "started_ns")

    def __init__(
        self, batch: Any, plan: AppliedPlan | None, length: int, started_ns: int, *, after_idle: bool
    ) -> None:
        """`batch` is SGLang's ScheduleBatch, which was launched at `started_ns`, when `length` applied."""
        super().__init__()
        self.plan = plan
        self.proposal_length = length
        self.started_ns = started_ns
        self.after_idle = after_idle
        self.ended_ns = 0
        self.requests = len(batch.reqs)
        self._live: list[Any] = []
        self._tokens_before = 0
        if after_idle:
            self.disturbances.append(_AFTER_IDLE)
        if batch.has_grammar:
            self.disturbances.append(_GRAMMAR)
        if batch.forward_mode.is_extend():
            self.prefill_tokens = batch.extend_num_tokens
            self.disturbances.append(_PREFILL)
            if any(request.retraction_count for request in batch.reqs):
                self.disturbances.append(_PREEMPTION)

    def before_processing(self, batch: Any) -> None:
        """Notes what processing will change.

        With overlap scheduling a request that ended meanwhile is still in the batch: SGLang throws its output
        away.
        """
        self._live = live = [r for r in batch.reqs if r.finished_reason is None and not r.is_retracted]
        self._tokens_before = sum([len(request.output_ids) for request in live])
        if not batch.forward_mode.is_extend():
            # The token that the step begins with is one more than those in the KV cache.
            self.context_tokens = [request.kv.kv_committed_len + 1 for request in live]

    def after_processing(self, batch: Any, result: Any) -> None:
        """Reads what the batch did."""
        live = self._live
        self.emitted_tokens = sum([_visible_tokens(request) for request in live]) - self._tokens_before
        if batch.forward_mode.is_extend():
            return
        # As the worker ran it: one token more than drafts.
        self.proposal_length = length = result.speculative_num_draft_tokens - 1
        accepted = result.num_correct_drafts_per_req_cpu
        if len(live) != len(batch.reqs):
            chosen = set(map(id, live))
            accepted = [n for r, n in zip(batch.reqs, accepted, strict=True) if id(r) in chosen]
        self.request_ids = [request.rid for request in live]
        self.proposed = self.verified = [length] * len(live)
        self.accepted = accepted
        self._live = []


def _visible_tokens(request: Any) -> int:
    """Output tokens that its caller gets: a stop ends them, perhaps before the last accepted draft."""
    finished_len = request.finished_len
    return len(request.output_ids) if finished_len is None else int(finished_len)
