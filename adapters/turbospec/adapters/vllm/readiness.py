"""Which requests may not speculate, because the drafter was skipped while their tokens were computed.

A request whose draft KV cache has a gap would be drafted for from garbage: never a wrong answer, but drafts
that are rejected. It is unready from the first step without the drafter until it leaves, or is preempted
and computed again from the start.

A request that starts from cached blocks with a gap is unready too. If the drafter runs by then, these are
also taken out of the prefix cache: the next request with that prefix computes them anew, for the drafter
too. Otherwise a prompt that everybody shares could end speculation for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turbospec.adapters.vllm.gaps import BlockGaps, BlockIds


class Readiness:
    """The unready requests of one scheduler.

    `active`: some request is unready or some block has a gap, so that steps with the drafter matter too.
    """

    __slots__ = ("_gaps", "_unready", "active", "unready")

    def __init__(self, kv_cache_manager: Any) -> None:
        self._gaps = BlockGaps(kv_cache_manager)
        self._unready: set[str] = set()
        self.active = False
        # A copy that is never changed: reports keep it.
        self.unready: frozenset[str] = frozenset()

    def scheduled(self, output: Any, requests: Mapping[str, Any], *, skipped: bool) -> None:
        """A step was scheduled. `skipped`: without the drafter.

        Must be called before vLLM advances `num_computed_tokens` for it.
        """
        for new in output.scheduled_new_reqs:
            self._enter(new.req_id, new.block_ids, new.num_computed_tokens, skipped)
        cached = output.scheduled_cached_reqs
        for i, block_ids in enumerate(cached.new_block_ids):
            if block_ids is None:
                continue
            request_id = cached.req_ids[i]
            if request_id in cached.resumed_req_ids:
                self._enter(request_id, block_ids, cached.num_computed_tokens[i], skipped)
            else:
                self._gaps.given(block_ids, 0, gap=request_id in self._unready)
        if skipped:
            for request_id in output.num_scheduled_tokens:
                if request_id not in self._unready:
                    self._miss(requests[request_id])
        self._publish()

    def nobody_ready(self, output: Any) -> bool:
        """Whether the drafter is of no use in a scheduled step: all of its requests are unready.

        Who starts in it, or starts again, may be ready: the drafter has to see the prompt. Must be called
        before `scheduled`.
        """
        return bool(
            self.unready
            and output.num_scheduled_tokens
            and self.unready.issuperset(output.num_scheduled_tokens)
            and not output.scheduled_new_reqs
            and not output.scheduled_cached_reqs.resumed_req_ids
            and not output.scheduled_spec_decode_tokens
        )

    def forget(self, request_id: str) -> None:
        """A request has left."""
        if request_id in self._unready:
            self._unready.discard(request_id)
            self._publish()

    def _enter(self, request_id: str, block_ids: BlockIds, computed_tokens: int, skipped: bool) -> None:
        """A request starts, or starts again, with `computed_tokens` that are there already."""
        found = self._gaps.among(block_ids, computed_tokens)
        if found:
            self._unready.add(request_id)
            if not skipped:
                self._gaps.uncache(found)
        elif self._gaps.caching or not computed_tokens:
            self._unready.discard(request_id)
        # Else a session goes on with its own tokens, and is what it was.
        self._gaps.given(block_ids, computed_tokens, gap=request_id in self._unready)

    def _miss(self, request: Any) -> None:
        """A request that was ready runs without the drafter."""
        self._unready.add(request.request_id)
        # What steps in flight write may be rejected and written again.
        self._gaps.open(request, max(0, request.num_computed_tokens - request.num_output_placeholders))

    def _publish(self) -> None:
        if self._unready != self.unready:
            self.unready = frozenset(self._unready)
        self.active = bool(self._unready or self._gaps)
