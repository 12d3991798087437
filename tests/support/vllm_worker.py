"""A real vLLM engine in a process of its own, driven by a test through a pipe.

The engine core runs in that process's main thread, so that a test can stop between two steps, look at
the scheduler and act: abort, break something, count. Only facts that vLLM's own objects show are
collected, none that the adapter under test reports about itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

from support import vllm_cpu
from support.conformance.subject import SeenStep
from support.patience import PATIENCE_SECONDS
from support.vllm_draft_kv import DraftKv
from support.vllm_evidence import Evidence
from support.vllm_options import EngineOptions
from support.vllm_processes import engine_context
from support.vllm_requests import NO_ANSWER, Answer, Ask, add, drive

SCHEDULER = "turbospec.adapters.vllm.scheduler.TurboSpecScheduler"


class Engine:
    """A running worker. Its methods run in that process; errors there are raised here."""

    def __init__(self, options: EngineOptions) -> None:
        self.asynchronous = options.asynchronous
        self.method = (options.speculative or {}).get("method")
        context = engine_context()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(options, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._answer(timeout=480)

    def generate(self, asks: Iterable[Ask], timeout: float = 480) -> tuple[list[list[int]], Evidence]:
        """Runs requests to their end; output token ids in order (empty for aborted ones), and evidence."""
        answers, evidence = self.answer(asks, timeout)
        return [[] if answer.aborted else answer.tokens[0] for answer in answers], evidence

    def answer(self, asks: Iterable[Ask], timeout: float = 480) -> tuple[list[Answer], Evidence]:
        """The same, with everything that a caller gets."""
        return self._call("answer", list(asks), timeout=timeout)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs a module's function with the scheduler and these arguments in the engine's process."""
        return self._call("call", function, args, timeout=2 * PATIENCE_SECONDS)

    def break_controller(self, method: str) -> None:
        """Makes a method that the adapter calls in each step raise from now on."""
        self._call("break_controller", method, timeout=PATIENCE_SECONDS)

    def break_skipping(self) -> None:
        """Makes the worker's side of skipping the drafter raise from now on."""
        self._call("break_skipping", timeout=PATIENCE_SECONDS)

    def ignore_memory(self) -> None:
        """Takes away the rule that drafts make way before a request is preempted, and all that it saves."""
        self._call("ignore_memory", timeout=PATIENCE_SECONDS)

    def seed(self, seed: int) -> None:
        """Seeds what the engine draws for requests without a seed of their own."""
        self._call("seed", seed, timeout=PATIENCE_SECONDS)

    def trim_by_sampled_token(self, least: float) -> None:
        """Adds a rule that is not lossless: drop drafts from the first of a probability below `least` on."""
        self._call("trim_by_sampled_token", least, timeout=PATIENCE_SECONDS)

    def held_state(self) -> dict[str, int]:
        """Where the adapter still keeps something, with how much, when the engine has nothing to do."""
        return self._call("held_state", timeout=PATIENCE_SECONDS)

    def has_plan(self) -> bool:
        """Whether a plan is there to apply."""
        return bool(self._call("has_plan", timeout=PATIENCE_SECONDS))

    def wait_controlled(self) -> None:
        """Waits until one is."""
        self._call("wait_controlled", timeout=2 * PATIENCE_SECONDS)

    def kill(self) -> None:
        """Ends the worker as a crash does. Who waits for it gets an EOFError."""
        self._process.kill()
        self._process.join()

    def stop(self) -> None:
        """Ends the worker."""
        self._pipe.close()
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _call(self, method: str, *args: Any, timeout: float) -> Any:
        self._pipe.send((method, args))
        return self._answer(timeout)

    def _answer(self, timeout: float) -> Any:
        if not self._pipe.poll(timeout):
            raise TimeoutError(f"the engine did not answer within {timeout:g} s")
        failed, result = self._pipe.recv()
        if failed:
            raise RuntimeError(f"in the engine's process:\n{result}")
        return result


def _serve(options: EngineOptions, pipe: Connection) -> None:
    import traceback

    os.environ.update(options.environ)
    worker: _Worker | None = None
    request: tuple[str, tuple[Any, ...]] | None = None
    while True:
        try:
            if worker is None:
                worker, result = _Worker(options), None
            else:
                assert request is not None
                result = getattr(worker, request[0])(*request[1])
            pipe.send((False, result))
        except Exception:  # noqa: BLE001 - the test's side raises it
            pipe.send((True, traceback.format_exc()))
            if worker is None:
                return
        try:
            request = pipe.recv()
        except EOFError:
            return


class _Worker:
    def __init__(self, options: EngineOptions) -> None:
        if options.before is not None:
            options.before()
        from vllm import LLM

        if options.asynchronous:
            vllm_cpu.keep_asynchronous()
        vllm_cpu.repair_expansion()
        self._llm = LLM(
            model=options.model,
            speculative_config=options.speculative,
            scheduler_cls=SCHEDULER,
            async_scheduling=options.asynchronous,
            dtype="float32",
            enforce_eager=True,
            **{
                "enable_prefix_caching": False,
                "max_model_len": 512,
                "max_num_seqs": 8,
                "disable_log_stats": True,
                **options.engine_args,
            },
        )
        core = self._llm.llm_engine.engine_core.engine_core
        self._core = core
        self._scheduler = core.scheduler
        self._evidence = Evidence()
        self._in_flight = 0
        self._serial = 0
        self._index: dict[str, int] = {}
        self._draft_kv: DraftKv | None = None
        self._observe()

    def answer(self, asks: list[Ask]) -> tuple[list[Answer], Evidence]:
        evidence = self._evidence = Evidence(
            max_concurrent_batches=self._core.vllm_config.max_concurrent_batches,
            scheduler_class=type(self._scheduler).__name__,
        )
        engine = self._llm.llm_engine
        before = self._counters()
        self._serial += 1
        by_id = {f"{self._serial}-{index}": ask for index, ask in enumerate(asks)}
        for request_id, ask in by_id.items():
            add(engine, request_id, ask)
        # vLLM adds a random suffix to ids, and a prefix where a request has several sequences.
        numbers = {request_id: index for index, request_id in enumerate(by_id)}
        self._index = {
            inner: numbers[inner.rsplit("-", 1)[0].split("_")[-1]] for inner in self._scheduler.requests
        }
        evidence.ids = {index: inner for inner, index in self._index.items()}
        answers = drive(engine, by_id)
        while self._core.batch_queue:  # as the engine's own loop does: a step in flight is brought home
            self._core.step_fn()
        evidence.counters = {name: count - before.get(name, 0) for name, count in self._counters().items()}
        control = getattr(self._scheduler, "_turbospec", None)
        if control is not None:
            evidence.enabled = control.enabled
        return [answers.get(request_id, NO_ANSWER) for request_id in by_id], evidence

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return function(self._scheduler, *args)

    def _counters(self) -> dict[str, int]:
        engine = self._llm.llm_engine
        if not engine.log_stats:
            return {}
        counters = {}
        for metric in engine.get_metrics():
            if metric.name.startswith("vllm:spec_decode_"):
                name = metric.name.removeprefix("vllm:spec_decode_")
                counters |= (
                    {f"{name}/{i}": count for i, count in enumerate(metric.values)}
                    if hasattr(metric, "values")
                    else {name: metric.value}
                )
        return counters

    def seed(self, seed: int) -> None:
        import torch

        torch.manual_seed(seed)

    def trim_by_sampled_token(self, least: float) -> None:
        control = self._scheduler._turbospec
        runner = self._core.model_executor.driver_worker.worker.model_runner
        trim = control.before_schedule

        def before_schedule() -> None:
            trim()
            rows = {request_id: row for row, request_id in enumerate(runner._draft_prob_req_ids or ())}
            for request in self._scheduler.running:
                for position, token in enumerate(request.spec_token_ids):
                    if runner._draft_probs[rows[request.request_id], position, token] < least:
                        request.spec_token_ids = request.spec_token_ids[:position]
                        break

        control.before_schedule = before_schedule

    def held_state(self) -> dict[str, int]:
        import time

        self.answer([Ask([5, 6, 7, 8], 4)])  # what was closed last travels with the next step
        control = self._scheduler._turbospec
        slots = control._controller._backlog.slots
        deadline = time.monotonic() + PATIENCE_SECONDS / 2
        while len(slots) and time.monotonic() < deadline:
            time.sleep(0.05)  # the client's thread reads the step
        held = {
            "requests": len(control._known),
            "caps": len(control._caps),
            "steps in flight": len(control._in_flight),
            "unready": len(control._readiness.unready),
            "slots": len(slots),
        }
        return {what: count for what, count in held.items() if count}

    def break_controller(self, method: str) -> None:
        def broken(*_: Any) -> None:
            raise RuntimeError("broken on purpose")

        setattr(self._scheduler._turbospec._controller, method, broken)

    def break_skipping(self) -> None:
        from turbospec.adapters.vllm import drafter

        def broken(*_: Any) -> None:
            raise RuntimeError("broken on purpose")

        drafter._no_drafts = broken

    def ignore_memory(self) -> None:
        memory = self._scheduler._turbospec._memory
        memory.release()
        self._scheduler._turbospec._memory = SimpleNamespace(
            longest=lambda _, length: length, reserve=lambda _: None, release=lambda: None
        )

    def has_plan(self) -> bool:
        return self._scheduler._turbospec._controller.current() is not None

    def wait_controlled(self) -> None:
        import time

        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.has_plan():
            if time.monotonic() > deadline:
                fallbacks = self._scheduler._turbospec._controller.fallbacks()
                raise TimeoutError(f"no plan within {PATIENCE_SECONDS:g} s: {fallbacks}")
            self.answer([Ask([5, 6, 7, 8], 4)])

    def _observe(self) -> None:
        schedule, update = self._scheduler.schedule, self._scheduler.update_from_output

        def observed_schedule(*args: Any, **kwargs: Any) -> Any:
            output = schedule(*args, **kwargs)
            if output.num_scheduled_tokens:
                self._in_flight += 1
                self._scheduled(output)
            return output

        def observed_update(output: Any, result: Any) -> Any:
            if output.num_scheduled_tokens:
                self._in_flight -= 1
                self._updated(output, result)
            return update(output, result)

        drafter = getattr(self._core.model_executor.driver_worker.worker.model_runner, "drafter", None)
        if hasattr(drafter, "model"):
            self._observe_drafter(drafter)
            self._draft_kv = DraftKv(self._core.vllm_config.cache_config.block_size)
        take = self._core.model_executor.take_draft_token_ids

        def observed_take() -> Any:
            self._evidence.fetched_nothing += self._evidence.proposals[-1:] == [0]
            return take()

        self._core.model_executor.take_draft_token_ids = observed_take
        self._scheduler.schedule = observed_schedule
        self._scheduler.update_from_output = observed_update

    def _observe_drafter(self, drafter: Any) -> None:
        """Steps are executed in the order in which they are scheduled, here and on GPUs."""
        runner = self._core.model_executor.driver_worker.worker.model_runner
        execute, propose = runner.execute_model, drafter.propose

        def observed_execute(output: Any, *args: Any, **kwargs: Any) -> Any:
            self._executing = output
            return execute(output, *args, **kwargs)

        def observed_propose(*args: Any, **kwargs: Any) -> Any:
            self._executing.test_drafter_ran = True
            return propose(*args, **kwargs)

        runner.execute_model = observed_execute
        drafter.propose = observed_propose

    def _scheduled(self, output: Any) -> None:
        DraftKv.scheduled(output)
        evidence = self._evidence
        evidence.steps_in_flight = max(evidence.steps_in_flight, self._in_flight)
        evidence.proposals.append(output.num_spec_tokens_to_schedule)
        evidence.preemptions += len(output.preempted_req_ids or ())
        requests = (self._scheduler.requests[request_id] for request_id in output.num_scheduled_tokens)
        evidence.partial_prefills += sum(
            each.num_computed_tokens < each.num_prompt_tokens for each in requests
        )
        control = getattr(self._scheduler, "_turbospec", None)
        evidence.planned.append(control is not None and control._plan is not None)

    def _updated(self, output: Any, result: Any) -> None:
        entering = {new.req_id for new in output.scheduled_new_reqs}
        entering |= output.scheduled_cached_reqs.resumed_req_ids
        decoded = False
        evidence = self._evidence
        drafter_ran = hasattr(output, "test_drafter_ran")
        with_gap: set[str] = set()
        if self._draft_kv is not None:
            evidence.started_with_gap += self._draft_kv.begin(output)
            with_gap = self._draft_kv.with_gap
        step = SeenStep(len(output.num_scheduled_tokens), output.num_spec_tokens_to_schedule)
        evidence.steps.append(step)
        invalid = output.num_invalid_spec_tokens or {}
        for request_id, scheduled in output.num_scheduled_tokens.items():
            drafts = len(output.scheduled_spec_decode_tokens.get(request_id, ()))
            request = self._scheduler.requests.get(request_id)
            if request is None:
                continue
            sampled = result.sampled_token_ids[result.req_id_to_index[request_id]]
            if drafts and sampled:
                evidence.count(drafts - invalid.get(request_id, 0), len(sampled) - 1)
            if request_id in entering or scheduled != drafts + 1 or not sampled:
                continue
            decoded = True
            accepted = len(sampled) - 1
            step.verified[request_id], step.accepted[request_id] = drafts, accepted
            evidence.verified.setdefault(self._index.get(request_id, -1), []).append(drafts)
            evidence.accepted += accepted
            evidence.rejected += drafts - accepted
            if request_id in with_gap:
                evidence.verified_with_gap += drafts
            elif with_gap:
                evidence.accepted_after_gap += accepted
        evidence.decode_steps += decoded
        evidence.drafter_ran.append(drafter_ran)
        if self._draft_kv is not None:
            self._draft_kv.write(output, result, drafter_ran=drafter_ran)
