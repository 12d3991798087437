"""What a test can know of the steps that a real SGLang engine ran."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from support.conformance.subject import SeenStep


@dataclass
class Evidence:
    """What happened in the steps of one `answer`, as SGLang's scheduler and its workers showed it.

    By decode step: `lengths`, how many drafts each request had verified; `draft_passes`, how often the
    drafter's model ran, the pass over accepted tokens included; `batch_sizes`. By request (its index):
    `verified` and `accepted`, in its decode steps. `steps_in_flight`: most steps that were started and whose
    results were not processed. `steps`: all of them, prefill too; `ids`: SGLang's own of the requests.
    """

    prefill_steps: int = 0
    lengths: list[int] = field(default_factory=list)
    draft_passes: list[int] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)
    verified: dict[int, list[int]] = field(default_factory=dict)
    accepted: dict[int, list[int]] = field(default_factory=dict)
    steps_in_flight: int = 0
    steps: list[SeenStep] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    @property
    def decode_steps(self) -> int:
        return len(self.lengths)

    @property
    def total_accepted(self) -> int:
        return sum(map(sum, self.accepted.values()))

    @property
    def total_rejected(self) -> int:
        return sum(map(sum, self.verified.values())) - self.total_accepted


class Observer:
    """Fills `evidence` from a scheduler's steps; whoever starts a run replaces it.

    `index_of` has the index of each request by its id.
    """

    def __init__(self, scheduler: Any) -> None:
        self.evidence = Evidence()
        self.index_of: dict[str, int] = {}
        self._passes = 0
        self._in_flight: deque[int] = deque()  # draft passes of steps that were started
        self._run, self._process = scheduler.run_batch, scheduler.process_batch_result
        scheduler.run_batch, scheduler.process_batch_result = self._observed_run, self._observed_process
        drafter = getattr(scheduler.draft_worker, "draft_worker", None)
        if drafter is not None:
            self._forward = drafter.draft_runner.forward
            drafter.draft_runner.forward = self._observed_forward

    def _observed_forward(self, *args: Any, **kwargs: Any) -> Any:
        self._passes += 1
        return self._forward(*args, **kwargs)

    def _observed_run(self, *args: Any, **kwargs: Any) -> Any:
        self._passes = 0
        result = self._run(*args, **kwargs)
        self._in_flight.append(self._passes)
        self.evidence.steps_in_flight = max(self.evidence.steps_in_flight, len(self._in_flight))
        return result

    def _observed_process(self, batch: Any, result: Any) -> None:
        passes = self._in_flight.popleft()
        # With overlap a step may still carry requests whose end the step before it has shown.
        live = [not (request.finished() or request.is_retracted) for request in batch.reqs]
        decode = batch.forward_mode.is_decode()
        self._process(batch, result)
        if not decode:
            self.evidence.prefill_steps += 1
            self.evidence.steps.append(SeenStep(len(live), None))
            return
        drafts = (result.speculative_num_draft_tokens or 1) - 1
        accepted = result.num_correct_drafts_per_req_cpu or [0] * len(batch.reqs)
        step = SeenStep(len(live), drafts)
        self.evidence.steps.append(step)
        self.evidence.lengths.append(drafts)
        self.evidence.draft_passes.append(passes)
        self.evidence.batch_sizes.append(sum(live))
        for request, counts, alive in zip(batch.reqs, accepted, live, strict=True):
            if alive and (index := self.index_of.get(request.rid)) is not None:
                self.evidence.verified.setdefault(index, []).append(drafts)
                self.evidence.accepted.setdefault(index, []).append(counts)
                step.verified[request.rid], step.accepted[request.rid] = drafts, counts
