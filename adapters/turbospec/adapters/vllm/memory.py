"""KV cache: drafts reserve what they use, and where room is short they make way before any request must.

vLLM reserves room past each request's tokens for what the drafter writes, always for the configured length,
and where a running request finds no room for its step it preempts another: that one is computed again from
the start. A draft is never worth that. So room is reserved for the planned length only, and where the free
blocks would not do for it, for the longest that they do for, down to 0, which needs what an engine without
speculation needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class DraftMemory:
    """Of one vLLM scheduler. All methods run in its thread.

    `follows_length`: the drafter writes no further than the length of the step, so that the reserve may be
    shorter than configured. `max_length` is the configured one.
    """

    __slots__ = ("_configured", "_follows_length", "_groups", "_most", "_pool", "_prompts", "_scheduler")

    def __init__(self, scheduler: Any, *, follows_length: bool, max_length: int) -> None:
        self._scheduler = scheduler
        self._follows_length = follows_length
        self._configured: int = scheduler.num_lookahead_tokens
        cache = scheduler.kv_cache_manager
        self._pool = cache.block_pool
        managers = cache.coordinator.single_type_managers
        self._groups = [(manager.block_size, manager.req_to_blocks) for manager in managers]
        # Blocks that a step can take at most: for each decoding request, by length, and for all prompts.
        self._most = [
            sum(_blocks(1 + length + self._reserve(length), size) for size, _ in self._groups)
            for length in range(max_length + 1)
        ]
        self._prompts = sum(_blocks(scheduler.max_num_scheduled_tokens, size) for size, _ in self._groups)

    def longest(self, running: Sequence[Any], length: int) -> int:
        """The longest length, at most `length`, for which the free blocks surely do.

        Of `running` requests each verifies the drafts that it has now, up to that length.
        """
        free: int = self._pool.get_num_free_blocks()
        # Almost always: then nobody has to be looked at.
        if free >= len(running) * self._most[length] + self._prompts:
            return length
        # Where each request's tokens end without drafts, how many drafts it has, and the blocks it holds.
        needs = [
            (
                request.num_tokens + request.num_output_placeholders,
                len(request.spec_token_ids),
                size,
                len(held),
            )
            for size, blocks in self._groups
            for request in running
            if (held := blocks.get(request.request_id)) is not None
        ]
        while length and free < sum(
            max(_blocks(end + min(drafts, length) + self._reserve(length), size) - held, 0)
            for end, drafts, size, held in needs
        ):
            length -= 1
        return length

    def reserve(self, length: int) -> None:
        """Room past each request's tokens in the step to be scheduled, which proposes `length` drafts."""
        self._scheduler.num_lookahead_tokens = self._reserve(length)

    def release(self) -> None:
        """The engine's own reserve again."""
        self._scheduler.num_lookahead_tokens = self._configured

    def _reserve(self, length: int) -> int:
        return min(length, self._configured) if self._follows_length else self._configured


def _blocks(tokens: int, size: int) -> int:
    return -(-tokens // size)
