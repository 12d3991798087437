"""Telemetry: what a step says, noted in the engine's thread and read in the client's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import StepRecord
from turbospec.v1 import speculation_pb2 as pb

# Plain ints: reading an enum attribute of a message module costs more than the rest of a label.
_AFTER_IDLE = int(pb.DISTURBANCE_AFTER_IDLE)
_PREFILL = int(pb.DISTURBANCE_PREFILL)
_PREEMPTION = int(pb.DISTURBANCE_PREEMPTION)
_GRAMMAR = int(pb.DISTURBANCE_GRAMMAR)

_NOTHING: dict[str, int] = {}
UNKNOWN = -1
"""`emitted_tokens` where they are all that was sampled, because nobody left: `derive` adds them up."""


class ScheduledStep(StepRecord):
    """A step from its scheduling to its report.

    The engine's thread notes what it cannot leave to another: the lengths of lists that vLLM is about to
    change. `derive` reads the rest in the client's thread, from messages that vLLM makes for this one step
    and changes no more once its output is consumed: SchedulerOutput and the index of ModelRunnerOutput. Live
    requests are never read there.
    """

    __slots__ = ("_output", "_preempted", "_proposed", "_rows", "_tokens", "after_idle", "scheduled_ns")

    def __init__(
        self,
        output: Any,
        plan: AppliedPlan | None,
        proposed: tuple[list[str], list[int]] | None,
        scheduled_ns: int,
        after_idle: bool,
    ) -> None:
        """`output` is vLLM's SchedulerOutput. `proposed`: ids of requests with drafts, and how many they
        had before trimming; None where nothing was trimmed. `scheduled_ns`: when scheduling began."""
        super().__init__()
        self.plan = plan
        self.scheduled_ns = scheduled_ns
        self.after_idle = after_idle
        self._output = output
        self._proposed = proposed
        self._preempted = False
        self._rows: Mapping[str, int] = _NOTHING
        self._tokens: list[int] = []
        self.emitted_tokens = UNKNOWN

    def finish(self, runner_output: Any, requests: Mapping[str, Any], duration_ns: int) -> None:
        """Notes what the step did, from vLLM's ModelRunnerOutput and its live requests.

        Must be called before `Scheduler.update_from_output`, which truncates sampled ids in place when a
        request stops.
        """
        self.duration_ns = duration_ns
        self._rows = runner_output.req_id_to_index
        self._tokens = list(map(len, runner_output.sampled_token_ids))
        output = self._output
        self._preempted = bool(
            output.preempted_req_ids
            or output.scheduled_cached_reqs.resumed_req_ids
            # Model runner 2 lists requests that are back after a preemption as new.
            or any(_was_preempted(requests.get(new.req_id)) for new in output.scheduled_new_reqs)
        )

    def derive(self) -> None:
        """The entries: requests that decoded and whose result can teach something.

        Left out are admissions and resumptions (their drafts are padding), prompts that are not finished, and
        requests without output.
        """
        output, self._output = self._output, None
        scheduled = output.num_scheduled_tokens
        drafts_of = output.scheduled_spec_decode_tokens.get
        invalid = output.num_invalid_spec_tokens or _NOTHING
        proposed_of = (dict(zip(*self._proposed, strict=True)) if self._proposed else _NOTHING).get
        cached = output.scheduled_cached_reqs
        resumed = cached.resumed_req_ids
        tokens_of, row_of = self._tokens, self._rows
        add_id, add_proposed = self.request_ids.append, self.proposed.append
        add_verified, add_accepted = self.verified.append, self.accepted.append
        add_context = self.context_tokens.append
        decoded_tokens = 0
        columns = zip(cached.req_ids, cached.num_computed_tokens, cached.num_output_tokens, strict=True)
        for request_id, computed, produced in columns:
            verified = len(drafts_of(request_id, ()))
            # Without a token of its own yet it computes the last token of a prompt in several parts.
            if scheduled[request_id] != verified + 1 or not produced or request_id in resumed:
                continue
            decoded_tokens += verified + 1
            tokens = tokens_of[row_of[request_id]] if tokens_of else 0
            if not tokens:
                continue
            add_id(request_id)
            add_proposed(proposed_of(request_id, verified))
            if invalid:
                verified -= invalid.get(request_id, 0)
            add_verified(verified)
            # A grammar's padding is never accepted, but a count from elsewhere is not worth a broken report.
            add_accepted(tokens - 1 if tokens <= verified else verified)
            add_context(computed + 1)
        if self.emitted_tokens == UNKNOWN:
            self.emitted_tokens = sum(tokens_of)
        self.requests = len(scheduled)
        self.proposal_length = output.num_spec_tokens_to_schedule
        self.prefill_tokens = sum(scheduled.values()) - decoded_tokens
        if self.after_idle:
            self.disturbances.append(_AFTER_IDLE)
        if self.prefill_tokens:
            self.disturbances.append(_PREFILL)
        if self._preempted:
            self.disturbances.append(_PREEMPTION)
        if output.pending_structured_output_tokens:
            self.disturbances.append(_GRAMMAR)


def _was_preempted(request: Any | None) -> bool:
    return request is not None and bool(request.num_preemptions)


def emitted_tokens(engine_outputs: Mapping[int, Any]) -> int:
    """Tokens that users received, from what `Scheduler.update_from_output` returned."""
    # A list per client: a generator would cost twice as much.
    return sum(
        sum([len(output.new_token_ids) for output in outputs.outputs]) for outputs in engine_outputs.values()
    )
