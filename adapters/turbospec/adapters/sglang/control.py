"""What happens at each of the scheduler's hooks, batch by batch."""

from __future__ import annotations

from logging import Logger
from time import monotonic, monotonic_ns
from typing import Any

from turbospec.adapters.client import ControlClient
from turbospec.adapters.guard import fail_open
from turbospec.adapters.intent import read_intent
from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.sglang.lengths import LengthPolicy
from turbospec.adapters.sglang.recording import BatchStep

_STEP = "turbospec_step"


class EngineControl:
    """Applies plans to one SGLang scheduler and reports its batches; all in the scheduler's thread.

    `own_thread_computes`: a launched batch is computed when the launch returns, as on CPUs; else its results
    are there once SGLang processes them. `chosen_elsewhere`: not at a batch's launch, but by `next_length`,
    for all ranks that compute it.
    """

    def __init__(
        self,
        scheduler: Any,
        policy: LengthPolicy,
        controller: ControlClient,
        logger: Logger,
        *,
        own_thread_computes: bool,
        chosen_elsewhere: bool = False,
    ) -> None:
        self.enabled = True
        self._scheduler = scheduler
        self._policy = policy
        self._controller = controller
        self._logger = logger
        self._own_thread_computes = own_thread_computes
        self._chosen_elsewhere = chosen_elsewhere
        self._complained: set[str] = set()
        # Requests that were ever in a batch: those in the queue have nothing to control yet.
        self._known: set[str] = set()
        self._caps: dict[str, int] = {}
        self._plan: AppliedPlan | None = None
        self._length: int | None = None
        self._launched = True
        self._started_ns = 0
        self._ended_ns = 0
        self._after_idle = True
        self._paused = False
        self._step: BatchStep | None = None

    def next_length(self) -> int | None:
        """The length to use from now on, None for the operator's own; may be asked as often as one likes."""
        self._choose_once()
        return self._length

    @fail_open
    def before_launch(self, batch: Any, *, after_idle: bool) -> None:
        """Opens new requests and takes the newest plan, before SGLang asks for the batch's length."""
        self._started_ns = monotonic_ns()
        self._after_idle = after_idle
        if batch.forward_mode.is_extend():
            if after_idle and self._known:
                self._forget_lost(batch)
            for request in batch.reqs:
                if request.rid not in self._known:
                    self._open(request)
        if not self._chosen_elsewhere:
            self._choose()
            self._policy.length = self._length

    @fail_open
    def after_launch(self, batch: Any, result: Any) -> None:
        """Notes what was launched; `result`, SGLang's GenerationBatchResult, will be processed later."""
        self._launched = True
        if batch.forward_mode.is_idle():
            return
        length = self._policy.static_length if self._length is None else self._length
        length = self._policy.nearest(length)
        step = BatchStep(batch, self._plan, length, self._started_ns, after_idle=self._after_idle)
        if self._own_thread_computes:
            self._time(step)
        setattr(result, _STEP, step)

    @fail_open
    def before_processing(self, batch: Any, result: Any) -> None:
        """Reads requests before SGLang adds to them what the batch brought."""
        self._step = step = result.__dict__.pop(_STEP, None)
        if step is not None:
            step.before_processing(batch)

    @fail_open
    def after_processing(self, batch: Any, result: Any) -> None:
        """Reports the batch, and that requests ended with it."""
        step, self._step = self._step, None
        if step is None:
            return
        if not step.ended_ns:
            self._time(step)
        step.after_processing(batch, result)
        for request in batch.reqs:
            if request.finished_reason is not None:
                self._close(request.rid)
        self._controller.submit(step)

    @fail_open
    def request_aborted(self, request: Any) -> None:
        """A request has left that was in no batch: it was queued, perhaps again after a retraction."""
        self._close(request.rid)

    @fail_open
    def resumed(self) -> None:
        """The scheduler goes on after a pause. The time of the next step says nothing."""
        self._paused = True

    @fail_open
    def close(self) -> None:
        """The engine shuts down."""
        self._controller.close()

    def disable(self, hook: str) -> None:
        """Leaves the engine to its own configuration for good; see `guard.fail_open`."""
        self.enabled = False
        self._logger.exception(
            "TurboSpec's adapter failed in %s and is disabled until the engine restarts. "
            "The engine serves on with its own configuration.",
            hook,
        )
        self._length = None
        if not self._chosen_elsewhere:
            self._policy.length = None
        self._plan = None
        self._step = None
        self._known.clear()
        self._caps.clear()
        self._controller.stop()

    @fail_open
    def _choose_once(self) -> None:
        """Takes the newest plan once per batch: what is counted by steps must not be counted by looks."""
        plan = self._plan
        if self._launched or (plan is not None and monotonic() >= plan.expires_at):
            self._launched = False
            self._choose()

    def _choose(self) -> None:
        self._plan = plan = self._controller.current()
        # All drafts are verified, so that the shorter length is the one to run.
        length = None if plan is None else min(plan.proposal_length, plan.default_verification_length)
        if self._caps:
            # One length for all: only the smallest cap keeps every caller's.
            cap = min(self._caps.values())
            length = min(cap, self._policy.static_length if length is None else length)
        self._length = length

    def _time(self, step: BatchStep) -> None:
        step.ended_ns = now_ns = monotonic_ns()
        if self._paused:
            self._paused = False
        else:
            # From the end of the one before, so that what SGLang does between two batches counts.
            first = step.after_idle or not self._ended_ns
            step.duration_ns = now_ns - (step.started_ns if first else self._ended_ns)
        self._ended_ns = now_ns

    def _open(self, request: Any) -> None:
        intent, complaints = read_intent(request.sampling_params.custom_params)
        for complaint in complaints:
            self._complain(complaint)
        if intent.max_draft is not None:
            self._caps[request.rid] = intent.max_draft
        self._known.add(request.rid)
        self._controller.open_request(
            request.rid,
            label=intent.label,
            max_draft=intent.max_draft,
            prompt_tokens=len(request.origin_input_ids),
        )

    def _close(self, request_id: str) -> None:
        if request_id in self._known:
            self._known.discard(request_id)
            self._caps.pop(request_id, None)
            self._controller.close_request(request_id)

    def _forget_lost(self, batch: Any) -> None:
        """Closes requests that left in a way that no hook saw; after idle time it is known who is there."""
        scheduler = self._scheduler
        there = (batch.reqs, scheduler.waiting_queue, scheduler.running_batch.reqs)
        for request_id in self._known - {request.rid for requests in there for request in requests}:
            self._close(request_id)

    def _complain(self, complaint: str) -> None:
        """Once for each field: callers repeat themselves, logs should not."""
        field = complaint.split(" ", 1)[0]
        if field not in self._complained:
            self._complained.add(field)
            self._logger.warning("A request's %s; ignored, and not reported again.", complaint)
