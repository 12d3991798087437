"""Verification lengths: how many of its drafts a request carries into the step about to be scheduled."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from turbospec.adapters.plans import AppliedPlan


def trim_to_plan(
    running: Iterable[Any],
    plan: AppliedPlan,
    caps: Mapping[str, int],
    scheduled_before: Container[str],
    *,
    stop_before_end: bool,
) -> dict[str, int]:
    """Trims the drafts of running requests to the plan's lengths, and says how many each had.

    `caps`: callers' limits by request id. `scheduled_before`: ids of the requests in the previous step.
    Drafts of others must go: runner 1 keeps drafts and their probabilities of its last step only. For one
    request without them it rejects the whole batch's drafts by a rule that is not lossless for sampled
    drafts, and with asynchronous scheduling it never fills that request's placeholders.
    `stop_before_end`: no drafts past the last token that a request may still receive.

    Called once per step in the scheduler's thread, so the loop is flat and reads vLLM's lists directly.
    Drafts are sliced and never changed in place: under asynchronous scheduling all requests share one
    list of placeholders.
    """
    proposed: dict[str, int] = {}
    length_of = plan.verification_lengths.get
    default = plan.default_verification_length
    for request in running:
        drafts = request.spec_token_ids
        if not drafts:
            continue
        request_id = request.request_id
        count = proposed[request_id] = len(drafts)
        if request_id not in scheduled_before:
            request.spec_token_ids = []
            continue
        length = length_of(request_id, default)
        if stop_before_end:
            remaining = request.max_tokens - len(request._output_token_ids)
            if remaining < length + 2:
                # A step in flight delivers at least one of the remaining tokens; the step to be scheduled
                # delivers one beside its accepted drafts.
                remaining -= 2 if request.num_output_placeholders else 1
                length = max(min(length, remaining), 0)
        if caps and caps.get(request_id, length) < length:
            length = caps[request_id]
        if length < count:
            request.spec_token_ids = drafts[:length]
    return proposed


def trim_to_caps(requests: Mapping[str, Any], caps: Mapping[str, int]) -> None:
    """Trims the drafts of the requests whose callers set a limit, and no others."""
    for request_id, cap in caps.items():
        request = requests.get(request_id)
        if request is not None and len(request.spec_token_ids) > cap:
            request.spec_token_ids = request.spec_token_ids[:cap]


def longest_cap(request_ids: Iterable[str], caps: Mapping[str, int]) -> int | None:
    """The longest proposal that any of these requests may use; None where one has no limit."""
    longest = 0
    for request_id in request_ids:
        cap = caps.get(request_id)
        if cap is None:
            return None
        longest = max(longest, cap)
    return longest
