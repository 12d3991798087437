"""What happens at each of the scheduler's hooks, step by step."""

from __future__ import annotations

from logging import Logger
from time import monotonic_ns
from typing import Any, Protocol

from turbospec.adapters.guard import fail_open
from turbospec.adapters.intent import read_intent
from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import StepRecord
from turbospec.adapters.vllm.drafter import drafter_skipped, skip_drafter
from turbospec.adapters.vllm.memory import DraftMemory
from turbospec.adapters.vllm.readiness import Readiness
from turbospec.adapters.vllm.recording import ScheduledStep, emitted_tokens
from turbospec.adapters.vllm.verification import (
    Endings,
    drop_drafts,
    longest_cap,
    trim_all,
    trim_to_caps,
    trim_to_plan,
)


class Controller(Protocol):
    """The controller as the engine's thread sees it: `turbospec.adapters.client.ControlClient`.

    No method but `close` waits, and none raises. `stop` is `close` without the wait.
    """

    def current(self) -> AppliedPlan | None: ...
    def submit(self, step: StepRecord) -> None: ...
    def open_request(
        self, request_id: str, *, label: str, max_draft: int | None, prompt_tokens: int
    ) -> None: ...
    def close_request(self, request_id: str) -> None: ...
    def limited_by_memory(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class EngineControl:
    """Applies plans to one vLLM scheduler and reports its steps.

    All methods run in the scheduler's thread. Without a valid plan nothing of the engine's own
    configuration is touched, save that callers' limits hold and unready requests do not speculate.
    `proposal_settable`, `deep_off` and `stop_before_end` say what this engine bears (see `methods`,
    `drafter` and `verification`), `memory` where its drafts are written.
    """

    def __init__(
        self,
        scheduler: Any,
        controller: Controller,
        logger: Logger,
        *,
        memory: DraftMemory,
        proposal_settable: bool,
        stop_before_end: bool,
        deep_off: bool = False,
    ) -> None:
        self.enabled = True
        # Whether the newest step that ended was told to propose nothing; see `engine_core`.
        self.drafted_nothing = False
        self._scheduler = scheduler
        self._controller = controller
        self._logger = logger
        self._memory = memory
        self._proposal_settable = proposal_settable
        self._endings = Endings() if stop_before_end else None
        self._deep_off = deep_off
        self._complained: set[str] = set()
        # Requests that were ever scheduled: those in the queue have nothing to control yet.
        self._known: set[str] = set()
        self._caps: dict[str, int] = {}
        self._readiness = Readiness(scheduler.kv_cache_manager)

        # Of the step being scheduled.
        self._plan: AppliedPlan | None = None
        # The plan's, or as much of it as there is memory for.
        self._length = 0
        self._proposed: tuple[list[str], list[int]] | None = None
        self._scheduling_since_ns = 0
        self._after_idle = True
        # Across steps.
        self._left_out: list[str] = []
        self._in_flight: dict[int, ScheduledStep] = {}
        # Steps that may hold output of requests that are gone.
        self._uncertain_steps = 0
        self._last_update_ns = 0
        self._record: StepRecord | None = None

    @fail_open
    def before_schedule(self) -> None:
        """Takes the newest plan and trims drafts to it, before vLLM counts them."""
        self._scheduling_since_ns = monotonic_ns()
        running = self._scheduler.running
        self._after_idle = not running and not self._in_flight
        self._plan = plan = self._controller.current()
        self._proposed = None
        if plan is not None:
            if self._endings is not None:
                self._endings.look(running, plan.proposal_length)
            near_end = self._endings.near if self._endings is not None else ()
            self._proposed = trim_to_plan(running, plan, self._caps, near_end)
            # Runner 1 keeps drafts and their probabilities of its last step only. For one request without
            # them it rejects the whole batch's drafts by a rule that is not lossless for sampled drafts, and
            # with asynchronous scheduling it never fills that request's placeholders.
            drop_drafts(self._scheduler.requests, self._left_out)
            self._length = self._memory.longest(running, plan.proposal_length)
            if self._length < plan.proposal_length:
                trim_all(running, self._length)
                self._controller.limited_by_memory()
            self._memory.reserve(self._length)
        else:
            self._memory.release()
            if self._caps:
                trim_to_caps(self._scheduler.requests, self._caps)
        if self._readiness.unready:
            # After the plan: what they were offered counts as proposed all the same.
            drop_drafts(self._scheduler.requests, self._readiness.unready)

    @fail_open
    def after_schedule(self, output: Any) -> None:
        """Sets in vLLM's SchedulerOutput how many drafts the step shall propose, and whether at all."""
        scheduled: dict[str, int] = output.num_scheduled_tokens
        for new in output.scheduled_new_reqs:
            if new.req_id not in self._known:
                self._open(self._scheduler.requests[new.req_id])
        running = self._scheduler.running
        # All that are scheduled are running, so that counting them tells whether any was left out.
        self._left_out = (
            [request.request_id for request in running if request.request_id not in scheduled]
            if len(scheduled) < len(running)
            else []
        )
        if scheduled:
            self._in_flight[id(output)] = ScheduledStep(
                output, self._plan, self._proposed, self._scheduling_since_ns, self._after_idle
            )
        if self._proposal_settable and (self._plan is not None or self._caps):
            output.num_spec_tokens_to_schedule = self._proposal_length(output)
        plan = self._plan if self._deep_off else None
        skip = plan is not None and (plan.skip_drafter or self._readiness.nobody_ready(output))
        if skip:
            output.num_spec_tokens_to_schedule = 0
            skip_drafter(output)
        if skip or self._readiness.active:
            self._readiness.scheduled(output, self._scheduler.requests, skipped=skip)

    @fail_open
    def before_update(self, output: Any, runner_output: Any) -> None:
        """Reads what a step did, before vLLM consumes its output."""
        now_ns = monotonic_ns()
        step = self._in_flight.pop(id(output), None)
        if step is not None:
            # From the end of the one before, so that what vLLM does between two steps counts, which depends
            # on the length too: without asynchronous scheduling it asks its workers for the drafts then.
            # After idle time, the one before ended long ago.
            started_ns = step.scheduled_ns if step.after_idle else self._last_update_ns
            step.finish(runner_output, self._scheduler.requests, now_ns - started_ns)
            step.drafter_skipped = drafter_skipped(output)
            self._record = step
            self.drafted_nothing = self._proposal_settable and output.num_spec_tokens_to_schedule == 0
        self._last_update_ns = now_ns

    @fail_open
    def after_update(self, engine_outputs: dict[int, Any]) -> None:
        """Reports the step that `before_update` read."""
        record, self._record = self._record, None
        if record is not None:
            if self._uncertain_steps:
                self._uncertain_steps -= 1
                record.emitted_tokens = emitted_tokens(engine_outputs)
            record.kv_cache_usage_ratio = self._scheduler.kv_cache_manager.usage
            record.unready = self._readiness.unready
            self._controller.submit(record)

    @fail_open
    def request_freed(self, request: Any) -> None:
        """A request has left: finished, stopped, aborted or failed."""
        request_id = request.request_id
        # The step that ends it cuts its output short; those in flight yield output that nobody receives.
        self._uncertain_steps = 1 + len(self._in_flight)
        if request_id in self._known:
            self._known.discard(request_id)
            self._caps.pop(request_id, None)
            self._readiness.forget(request_id)
            self._controller.close_request(request_id)

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
        self.drafted_nothing = False
        self._memory.release()
        self._plan = None
        self._proposed = None
        self._record = None
        self._in_flight.clear()
        self._caps.clear()
        self._controller.stop()

    def _proposal_length(self, output: Any) -> int:
        own: int = output.num_spec_tokens_to_schedule
        length = own if self._plan is None else self._length
        cap = longest_cap(output.num_scheduled_tokens, self._caps) if self._caps else None
        return length if cap is None else min(length, cap)

    def _open(self, request: Any) -> None:
        parameters = request.sampling_params
        intent, complaints = read_intent(parameters.extra_args if parameters is not None else None)
        for complaint in complaints:
            self._complain(complaint)
        if intent.max_draft is not None:
            self._caps[request.request_id] = intent.max_draft
        self._known.add(request.request_id)
        if self._endings is not None:
            self._endings.enter(request.request_id)
        self._controller.open_request(
            request.request_id,
            label=intent.label,
            max_draft=intent.max_draft,
            prompt_tokens=request.num_prompt_tokens,
        )

    def _complain(self, complaint: str) -> None:
        """Once for each field: callers repeat themselves, logs should not."""
        field = complaint.split(" ", 1)[0]
        if field not in self._complained:
            self._complained.add(field)
            self._logger.warning("A request's %s; ignored, and not reported again.", complaint)
