"""Where the draft's KV cache has gaps: followed through vLLM's messages alone, from slot to slot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class DraftKv:
    """Follows the steps of an engine that keeps all layers' KV in one group of blocks.

    A slot is sound where the drafter wrote it last, and from a sound prefix. `with_gap`: requests, by id,
    some slot of which is not, those included that are gone.
    """

    block_size: int
    with_gap: set[str] = field(default_factory=set)
    _unsound: set[tuple[int, int]] = field(default_factory=set)
    _blocks: dict[str, list[int]] = field(default_factory=dict)
    _positions: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def scheduled(output: Any) -> None:
        """Must see each SchedulerOutput before it is executed: the runner adds later steps' blocks to it."""
        cached = output.scheduled_cached_reqs
        began = [(new.req_id, new.block_ids, new.num_computed_tokens) for new in output.scheduled_new_reqs]
        grew = []
        columns = zip(cached.req_ids, cached.new_block_ids, cached.num_computed_tokens, strict=True)
        for request_id, blocks, computed in columns:
            if request_id in cached.resumed_req_ids:
                began.append((request_id, blocks, computed))
            elif blocks is not None:
                grew.append((request_id, list(*blocks)))
        output.test_began = [(request_id, list(*blocks), computed) for request_id, blocks, computed in began]
        output.test_grew = grew

    def begin(self, output: Any) -> int:
        """A step was executed; to be called in that order. How many requests started from a cached gap."""
        found = 0
        for request_id, blocks, computed in output.test_began:
            self._blocks[request_id], self._positions[request_id] = blocks, computed
            if self._unsound.isdisjoint(self._slots(request_id, 0, computed)):
                self.with_gap.discard(request_id)
            else:
                self.with_gap.add(request_id)
                found += 1
        for request_id, blocks in output.test_grew:
            self._blocks[request_id] += blocks
        return found

    def write(self, output: Any, result: Any, *, drafter_ran: bool) -> None:
        """What that step wrote."""
        for request_id, scheduled in output.num_scheduled_tokens.items():
            if not drafter_ran:
                self.with_gap.add(request_id)
            position = self._positions[request_id]
            written = self._slots(request_id, position, position + scheduled)
            if request_id in self.with_gap:
                self._unsound.update(written)
            else:
                self._unsound.difference_update(written)
            drafts = len(output.scheduled_spec_decode_tokens.get(request_id, ()))
            sampled = result.sampled_token_ids[result.req_id_to_index[request_id]]
            rejected = drafts + 1 - len(sampled) if drafts else 0
            self._positions[request_id] = position + scheduled - rejected

    def _slots(self, request_id: str, start: int, end: int) -> list[tuple[int, int]]:
        blocks, size = self._blocks[request_id], self.block_size
        return [(blocks[position // size], position % size) for position in range(start, end)]
