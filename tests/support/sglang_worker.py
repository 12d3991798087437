"""A real SGLang engine in a process of its own (one per rank), driven by a test through a pipe.

In that process SGLang's scheduler runs its own event loop, with its model runners and its plug-ins: all that
a scheduler process of a server has, save the sockets. Whenever the scheduler looks for requests, the test's
side has its turn: requests come at given steps, and between two runs a test may look at the scheduler and
act. Only facts that SGLang's own objects show are collected.

    engine = Engine(EngineOptions(model=…, method="STANDALONE", draft=…, overlap=True, environ={…}))
    answers, evidence = engine.answer(asks)
    engine.call(function, argument)   # there: function(scheduler, argument), of a module under tests/support
    engine.stop()
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any, NoReturn
from unittest.mock import patch

from support.patience import PATIENCE_SECONDS, wait_until
from support.sglang_evidence import Evidence, Observer
from support.sglang_setup import ENVIRONMENT, Answer, Ask, EngineOptions
from turbospec.engines.processes import free_port

_LOOK_SECONDS = 0.5


class Engine:
    """A running engine. Its methods run in its process, or processes; errors there are raised here."""

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        context = _context()
        port = free_port()
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(options.ranks):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(options, rank, port, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._gather(self._pipes, timeout=480)

    def answer(self, asks: Iterable[Ask], timeout: float = 480) -> tuple[list[Answer], Evidence]:
        """Runs requests to their end: the answers in order, and what happened meanwhile on rank 0."""
        return self.answer_on_each(asks, timeout)[0]

    def answer_on_each(
        self, asks: Iterable[Ask], timeout: float = 480
    ) -> list[tuple[list[Answer], Evidence]]:
        """The same as seen by each rank."""
        return self._call(self._pipes, "answer", (list(asks),), timeout)

    def call(self, function: Callable[..., Any], *args: Any, rank: int = 0) -> Any:
        """Runs a module's function with the scheduler of a rank, and these arguments, between two runs.

        Such functions may wait for something for `PATIENCE_SECONDS` themselves.
        """
        return self._call([self._pipes[rank]], "call", (function, args), 2 * PATIENCE_SECONDS)[0]

    def kill(self) -> None:
        """Ends it as a crash does. Who waits for it gets an EOFError."""
        for process in self._processes:
            process.kill()
            process.join()

    def stop(self) -> None:
        """Ends it."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(30)
        self.kill()

    def _call(self, pipes: Sequence[Connection], method: str, args: tuple[Any, ...], timeout: float) -> Any:
        for pipe in pipes:
            pipe.send((method, args))
        return self._gather(pipes, timeout)

    def _gather(self, pipes: Sequence[Connection], timeout: float) -> list[Any]:
        results = []
        for pipe in pipes:
            # The pipe itself waits, so that an answer is read at once.
            wait_until(
                lambda pipe=pipe: pipe.poll(_LOOK_SECONDS), "answered by the engine", timeout, every=0.0
            )
            failed, result = pipe.recv()
            if failed:
                raise RuntimeError(f"in the engine's process:\n{result}")
            results.append(result)
        return results


def _context() -> ForkServerContext:
    """Engines are forked from a process that has SGLang imported: importing is most of a start.

    Of the variables that SGLang reads at import, all engines therefore have those of `ENVIRONMENT`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sglang_cpu.preload"])
    with patch.dict(os.environ, ENVIRONMENT):
        forkserver.ensure_running()
    return context


def _serve(options: EngineOptions, rank: int, port: int, pipe: Connection) -> NoReturn:
    import tempfile
    import traceback

    os.environ.update(options.environment())
    with tempfile.TemporaryDirectory(prefix="ts-sglang-", dir="/tmp") as folder:
        tempfile.tempdir = folder  # SGLang leaves its sockets' files behind
        try:
            worker = _Worker(options, rank, port, pipe)
            pipe.send((False, None))
            worker.run()
        except EOFError:
            pass  # the test is done
        except Exception:  # noqa: BLE001 - the test's side raises it
            with contextlib.suppress(OSError):
                pipe.send((True, traceback.format_exc()))
    os._exit(0)  # SGLang's threads and sockets have nobody left to wait for


class _Run:
    """Requests that are being answered: which of them are still to come and to be taken back."""

    def __init__(self, prefix: str, asks: list[Ask], steps: int) -> None:
        self.ids = [f"{prefix}-{index}." for index in range(len(asks))]
        self.requests: dict[str, Any] = {}
        self._began = steps
        named = list(zip(self.ids, asks, strict=True))
        self.coming = sorted(named, key=lambda each: each[1].start_at)
        self.aborts = [(ask.abort_after, id_) for id_, ask in named if ask.abort_after is not None]

    def due(self, steps: int, *, idle: bool) -> list[tuple[str, Ask]]:
        """Requests that come now; an idle engine is not kept waiting for steps that it will not do."""
        if idle and self.coming:
            self._began = min(self._began, steps - self.coming[0][1].start_at)
        due = [each for each in self.coming if each[1].start_at <= steps - self._began]
        self.coming = self.coming[len(due) :]
        return due

    def aborted(self, steps: int) -> list[str]:
        """Requests that are taken back now."""
        due = [id_ for after, id_ in self.aborts if after <= steps - self._began]
        self.aborts = [each for each in self.aborts if each[1] not in due]
        return due


class _Worker:
    """The process's side: SGLang's scheduler, as `run_scheduler_process` of SGLang makes it."""

    def __init__(self, options: EngineOptions, rank: int, port: int, pipe: Connection) -> None:
        from sglang.srt.managers import scheduler
        from sglang.srt.managers.scheduler_components.output_sender import SenderWrapper
        from sglang.srt.plugins import load_plugins
        from sglang.srt.runtime_context import SpawnRanks, publish, spawn_world_rank
        from sglang.srt.server_args import PortArgs, ServerArgs
        from sglang.srt.utils import configure_logger

        load_plugins()
        server_args = ServerArgs(**{"nccl_port": port, **options.server_args()})
        configure_logger(server_args)
        server_args.resolve_once()
        server_args.check_server_args()
        world_rank = spawn_world_rank(server_args, tp_rank=rank, pp_rank=0)
        publish(server_args, role="scheduler", ranks=SpawnRanks(world_rank=world_rank, gpu_id=rank))
        self._pipe = pipe
        self._scheduler = scheduler.Scheduler(server_args, PortArgs.init_new(server_args))
        # Nobody listens: answers are read from the requests themselves.
        self._scheduler.output_streamer.send_to_detokenizer = SenderWrapper(None)
        self._observer = Observer(self._scheduler)
        self._serial = 0
        self._run: _Run | None = None
        self._ingest, self._queue = self._scheduler.ingest_requests, self._scheduler._add_request_to_queue
        self._scheduler.ingest_requests = self._observed_ingest
        self._scheduler._add_request_to_queue = self._observed_queue

    def run(self) -> None:
        """SGLang's event loop, until the test's side closes the pipe."""
        self._scheduler.run_event_loop()

    def answer(self, asks: list[Ask]) -> None:
        self._serial += 1
        self._run = _Run(str(self._serial), asks, self._scheduler.forward_ct)
        self._observer.evidence = Evidence(ids=self._run.ids)
        self._observer.index_of = {id_: index for index, id_ in enumerate(self._run.ids)}

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return function(self._scheduler, *args)

    def _observed_ingest(self, *args: Any, **kwargs: Any) -> Any:
        """In place of the scheduler's look for requests, once per round of its loop."""
        idle = self._scheduler.is_fully_idle()
        if self._run is not None and not self._run.coming and idle:
            answers = [self._read(self._run.requests.get(id_)) for id_ in self._run.ids]
            self._run = None
            self._pipe.send((False, (answers, self._observer.evidence)))
        while self._run is None:
            self._obey()
        steps = self._scheduler.forward_ct
        incoming = [self._request(id_, ask) for id_, ask in self._run.due(steps, idle=idle)]
        incoming += [self._abort(id_) for id_ in self._run.aborted(steps)]
        self._scheduler._deferred_input_requests.extend(incoming)
        return self._ingest(*args, **kwargs)

    def _obey(self) -> None:
        import traceback

        method, args = self._pipe.recv()
        try:
            result = getattr(self, method)(*args)
        except Exception:  # noqa: BLE001 - the test's side raises it
            self._pipe.send((True, traceback.format_exc()))
        else:
            if self._run is None:
                self._pipe.send((False, result))

    def _request(self, id_: str, ask: Ask) -> Any:
        from sglang.srt.managers.io_struct import TokenizedGenerateReqInput
        from sglang.srt.sampling.sampling_params import SamplingParams

        sampling = {"temperature": 0.0, "ignore_eos": True, **ask.sampling}
        params = SamplingParams(max_new_tokens=ask.max_tokens, custom_params=ask.custom_params, **sampling)
        params.normalize(self._scheduler.tokenizer)
        params.verify(self._scheduler.model_config.vocab_size)
        return TokenizedGenerateReqInput(
            rid=id_,
            input_text="",
            input_ids=array("q", ask.prompt),
            input_embeds=None,
            mm_inputs=None,
            token_type_ids=None,
            sampling_params=params,
            return_logprob=False,
            logprob_start_len=-1,
            top_logprobs_num=0,
            token_ids_logprob=None,
            stream=False,
        )

    def _abort(self, id_: str) -> Any:
        from sglang.srt.managers.io_struct import AbortReq

        return AbortReq(rid=id_)

    def _observed_queue(self, request: Any, *args: Any, **kwargs: Any) -> None:
        if self._run is not None:
            self._run.requests[request.rid] = request
        self._queue(request, *args, **kwargs)

    def _read(self, request: Any) -> Answer:
        if request is None:
            return Answer([], None, 0, 0)
        reason = request.finished_reason
        return Answer(
            tokens=list(request.output_ids_through_stop),
            finish=None if reason is None else reason.to_json(),
            verify_passes=request.spec_verify_ct,
            accepted=request.spec_num_correct_drafts,
        )
