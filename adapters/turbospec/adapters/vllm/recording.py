"""Telemetry: what a finished step says, read before vLLM's scheduler consumes its output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import StepRecord
from turbospec.v1 import speculation_pb2 as pb
from vllm.v1.request import RequestStatus

# Plain ints: reading an enum attribute of a message module costs more than the rest of a label.
_AFTER_IDLE = int(pb.DISTURBANCE_AFTER_IDLE)
_PREFILL = int(pb.DISTURBANCE_PREFILL)
_PREEMPTION = int(pb.DISTURBANCE_PREEMPTION)
_GRAMMAR = int(pb.DISTURBANCE_GRAMMAR)

_NOTHING: dict[str, int] = {}


class ScheduledStep:
    """A step between its scheduling and its output.

    `output` is vLLM's SchedulerOutput; holding it keeps its identity unique. `proposed`: drafts of each
    request before trimming, None where nothing was trimmed. `scheduled_ns`: when scheduling began.
    """

    __slots__ = ("after_idle", "output", "plan", "proposed", "scheduled_ns")

    def __init__(
        self,
        output: Any,
        plan: AppliedPlan | None,
        proposed: dict[str, int] | None,
        scheduled_ns: int,
        after_idle: bool,
    ) -> None:
        self.output = output
        self.plan = plan
        self.proposed = proposed
        self.scheduled_ns = scheduled_ns
        self.after_idle = after_idle


def record_step(
    step: ScheduledStep, runner_output: Any, requests: Mapping[str, Any], duration_ns: int
) -> StepRecord:
    """What `step` did, from vLLM's ModelRunnerOutput and its live requests.

    Must be called before `Scheduler.update_from_output`, which truncates sampled ids in place when a
    request stops. Entries are the requests that decoded; left out are those whose result teaches
    nothing: admissions and resumptions (their drafts are padding), stale output of a preempted request,
    requests gone meanwhile, and prompts that are not finished. `emitted_tokens` is not known here yet.
    """
    output = step.output
    record = StepRecord()
    record.plan = step.plan
    record.duration_ns = duration_ns
    record.proposal_length = output.num_spec_tokens_to_schedule
    record.requests = len(output.num_scheduled_tokens)

    entering = {new.req_id for new in output.scheduled_new_reqs}
    resumed = output.scheduled_cached_reqs.resumed_req_ids
    if resumed:
        entering |= resumed
    drafts_of = output.scheduled_spec_decode_tokens.get
    invalid = output.num_invalid_spec_tokens or _NOTHING
    proposed_of = (step.proposed or _NOTHING).get
    sampled = runner_output.sampled_token_ids
    row_of = runner_output.req_id_to_index

    running = RequestStatus.RUNNING

    prefill_tokens = 0
    add_id = record.request_ids.append
    add_proposed = record.proposed.append
    add_verified = record.verified.append
    add_accepted = record.accepted.append
    add_context = record.context_tokens.append
    for request_id, scheduled in output.num_scheduled_tokens.items():
        drafts = drafts_of(request_id)
        verified = len(drafts) if drafts else 0
        if scheduled != verified + 1 or (entering and request_id in entering):
            prefill_tokens += scheduled
            continue
        request = requests.get(request_id)
        if request is None or request.num_stale_output_tokens or request.status is not running:
            continue
        context = len(request._all_token_ids)
        if context == request.num_prompt_tokens:  # the last token of a prompt in several parts
            prefill_tokens += scheduled
            continue
        tokens = len(sampled[row_of[request_id]]) if sampled else 0
        if not tokens:
            continue
        proposed = proposed_of(request_id, verified)
        if invalid:
            verified -= invalid.get(request_id, 0)
        add_id(request_id)
        add_proposed(proposed)
        add_verified(verified)
        # A grammar's padding is never accepted, but a count from elsewhere is not worth a broken report.
        add_accepted(tokens - 1 if tokens <= verified else verified)
        add_context(context)
    record.prefill_tokens = prefill_tokens

    disturbances = record.disturbances
    if step.after_idle:
        disturbances.append(_AFTER_IDLE)
    if prefill_tokens:
        disturbances.append(_PREFILL)
    if resumed or output.preempted_req_ids or _any_preempted(entering, requests):
        disturbances.append(_PREEMPTION)
    if output.pending_structured_output_tokens:
        disturbances.append(_GRAMMAR)
    return record


def _any_preempted(entering: set[str], requests: Mapping[str, Any]) -> bool:
    """Whether one of them is back after a preemption: model runner 2 lists those as new."""
    return any(
        request.num_preemptions
        for request_id in entering
        if (request := requests.get(request_id)) is not None
    )


def emitted_tokens(engine_outputs: Mapping[int, Any]) -> int:
    """Tokens that users received, from what `Scheduler.update_from_output` returned."""
    # A list per client: a generator would cost twice as much.
    return sum(
        sum([len(output.new_token_ids) for output in outputs.outputs]) for outputs in engine_outputs.values()
    )
