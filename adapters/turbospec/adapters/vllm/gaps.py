"""KV blocks without draft KV: they outlive the requests that wrote them, in vLLM's prefix cache."""

from __future__ import annotations

from itertools import chain
from typing import Any

BlockIds = tuple[list[int], ...]  # one list per KV cache group of vLLM's


class BlockGaps:
    """Ids of the blocks that were written while the drafter was skipped, until they are given out again.

    Without prefix caching a block serves one request, and nothing is remembered.
    """

    __slots__ = ("_ids", "_manager")

    def __init__(self, kv_cache_manager: Any) -> None:
        self._manager = kv_cache_manager
        self._ids: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._ids)

    @property
    def caching(self) -> bool:
        """Whether there is a prefix cache."""
        return bool(self._manager.enable_caching)

    def among(self, block_ids: BlockIds, computed_tokens: int) -> set[int]:
        """The blocks with a gap among those that hold a request's first `computed_tokens`."""
        if not self._ids:
            return set()
        used = chain.from_iterable(
            ids[: self._used(manager, computed_tokens)]
            for ids, manager in zip(block_ids, self._groups(), strict=True)
        )
        return self._ids.intersection(used)

    def given(self, block_ids: BlockIds, computed_tokens: int, *, gap: bool) -> None:
        """A request was given these blocks, to write those beyond `computed_tokens`. `gap`: in vain."""
        if not self.caching:
            return
        for ids, manager in zip(block_ids, self._groups(), strict=True):
            fresh = ids[self._used(manager, computed_tokens) :]
            if gap:
                self._ids.update(fresh)
            else:
                self._ids.difference_update(fresh)
        # It stands where a group needs no block.
        self._ids.discard(self._manager.block_pool.null_block.block_id)

    def open(self, request: Any, position: int) -> None:
        """What a request writes from `position` on has a gap."""
        if not self.caching:
            return
        for manager in self._groups():
            written = manager.req_to_blocks[request.request_id][position // manager.block_size :]
            self._ids.update(block.block_id for block in written if not block.is_null)

    def uncache(self, block_ids: set[int]) -> None:
        """Takes blocks out of the prefix cache; requests that use them keep them."""
        self._manager.evict_blocks(block_ids)

    @staticmethod
    def _used(manager: Any, tokens: int) -> int:
        """How many blocks of a group the first `tokens` of a request touch, the last one perhaps in part."""
        return int(-(-tokens // manager.block_size))

    def _groups(self) -> Any:
        return self._manager.coordinator.single_type_managers
