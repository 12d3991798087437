"""What a test can know of the steps that a real vLLM engine ran."""

from __future__ import annotations

from dataclasses import dataclass, field

from support.conformance.subject import SeenStep


@dataclass
class Evidence:
    """What happened in the steps of one `generate`, as vLLM's scheduler saw it.

    `verified`: by request (its index), the verification lengths of its decode steps. `proposals`: by step,
    the proposal length that the drafter was told; `planned`: whether there was a plan. `steps_in_flight`:
    most steps that were scheduled and not yet updated. `drafter_ran`: by step, whether the drafter's model
    was called. `verified_with_gap`: drafts of requests whose draft KV had a gap, because they, or who wrote
    the cached blocks that they started from, had run in a step without it; `accepted_after_gap`: drafts of
    others, since the first such step; `started_with_gap`: requests that started, or started again, from such
    blocks. `fetched_nothing`: steps without drafts after which the workers were asked for drafts all the
    same. `partial_prefills`: parts of prompts that were not the last. `counts`: of drafts, draft tokens
    accepted tokens, and accepted tokens by position; `counters`: the same as vLLM's metrics have them, empty
    where it keeps none. `steps`: each of them; `ids`: by request (its index), vLLM's own of it.
    """

    decode_steps: int = 0
    verified: dict[int, list[int]] = field(default_factory=dict)
    proposals: list[int] = field(default_factory=list)
    rejected: int = 0
    accepted: int = 0
    preemptions: int = 0
    steps_in_flight: int = 0
    max_concurrent_batches: int = 0
    scheduler_class: str = ""
    planned: list[bool] = field(default_factory=list)
    drafter_ran: list[bool] = field(default_factory=list)
    verified_with_gap: int = 0
    accepted_after_gap: int = 0
    started_with_gap: int = 0
    fetched_nothing: int = 0
    partial_prefills: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    enabled: bool = True
    steps: list[SeenStep] = field(default_factory=list)
    ids: dict[int, str] = field(default_factory=dict)

    @property
    def controlled_steps(self) -> int:
        """How many there were with a plan."""
        return sum(self.planned)

    def count(self, drafts: int, accepted: int) -> None:
        """Notes what one request's drafts came to, under the names of vLLM's metrics."""
        positions = {f"num_accepted_tokens_per_pos/{i}": 1 for i in range(accepted)}
        totals = {"num_drafts": 1, "num_draft_tokens": drafts, "num_accepted_tokens": accepted}
        for name, value in (totals | positions).items():
            self.counts[name] = self.counts.get(name, 0) + value
