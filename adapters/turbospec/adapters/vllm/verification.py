"""Verification lengths: how many of its drafts a request carries into the step about to be scheduled."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from turbospec.adapters.plans import AppliedPlan

# Between two looks at how far each request is from its end: reading that costs as much as trimming.
_LOOK_STEPS = 16


class Endings:
    """Requests that may be near their last token: the others need not be looked at for that in each step."""

    __slots__ = ("_steps_left", "near")

    def __init__(self) -> None:
        self._steps_left = 0
        self.near: set[str] = set()

    def look(self, running: Iterable[Any], longest: int) -> None:
        """Before each step; looks at all requests once in a while. `longest`: most drafts of one."""
        if self._steps_left == 0:
            self._steps_left = _LOOK_STEPS
            # A step delivers one token beside its drafts; two more steps may be under way.
            reach = (_LOOK_STEPS + 2) * (longest + 1)
            self.near = {
                request.request_id
                for request in running
                if request.max_tokens - len(request._output_token_ids) <= reach
            }
        self._steps_left -= 1

    def enter(self, request_id: str) -> None:
        """A request enters; how long it is will be seen at the next look."""
        self.near.add(request_id)


def trim_to_plan(
    running: Iterable[Any], plan: AppliedPlan, caps: Mapping[str, int], near_end: Container[str]
) -> tuple[list[str], list[int]]:
    """Trims the drafts of running requests to the plan's lengths; ids of those with drafts, and how many.

    `caps`: callers' limits by request id. Of requests in `near_end` no drafts are kept past the last token
    that they may still receive.

    Called once per step in the scheduler's thread, so the loop is flat and reads vLLM's lists directly.
    Drafts are sliced and never changed in place: under asynchronous scheduling all requests share one
    list of placeholders.
    """
    ids: list[str] = []
    counts: list[int] = []
    add_id, add_count = ids.append, counts.append
    length_of = plan.verification_lengths.get
    default = plan.default_verification_length
    for request in running:
        drafts = request.spec_token_ids
        if not drafts:
            continue
        request_id = request.request_id
        count = len(drafts)
        add_id(request_id)
        add_count(count)
        length = length_of(request_id, default)
        if near_end and request_id in near_end:
            # A step in flight delivers at least one of the remaining tokens; the step to be scheduled
            # delivers one beside its accepted drafts.
            reserved = 2 if request.num_output_placeholders else 1
            remaining = request.max_tokens - len(request._output_token_ids) - reserved
            if length > remaining:
                length = max(remaining, 0)
        if caps and caps.get(request_id, length) < length:
            length = caps[request_id]
        if length < count:
            request.spec_token_ids = drafts[:length]
    return ids, counts


def trim_all(running: Iterable[Any], length: int) -> None:
    """Trims the drafts of all running requests to one length."""
    for request in running:
        if len(request.spec_token_ids) > length:
            request.spec_token_ids = request.spec_token_ids[:length]


def drop_drafts(requests: Mapping[str, Any], request_ids: Iterable[str]) -> None:
    """Takes all drafts of some requests."""
    for request_id in request_ids:
        request = requests.get(request_id)
        if request is not None and request.spec_token_ids:
            # A new list: under asynchronous scheduling all requests share one of placeholders.
            request.spec_token_ids = []


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
