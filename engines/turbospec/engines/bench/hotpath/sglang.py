"""A real SGLang scheduler in this process: its own loop, turn by turn, with the same requests each time."""

from __future__ import annotations

import inspect
from array import array
from collections.abc import Callable
from time import perf_counter
from typing import Any, TypeVar

from turbospec.adapters.sglang import compat
from turbospec.engines.bench.hotpath.hooks import Watch
from turbospec.engines.bench.hotpath.plan import LENGTH
from turbospec.engines.models import MadeModels
from turbospec.engines.processes import free_port
from turbospec.engines.stage import sglang as stage

T = TypeVar("T")

_HOOKS = ("before_launch", "after_launch", "before_processing", "after_processing")
_PROMPT_TOKENS = 16
# SGLang reserves room for a step's drafts, and ends requests that would fill a context's last tokens.
_SLACK_TOKENS = 16


def environment() -> dict[str, str]:
    """Of the process that the engine is in, before it imports anything of SGLang's."""
    return {**stage.hardware(threads=1).environment, "HF_HUB_OFFLINE": "1"}


class Engine:
    """SGLang's scheduler with its hooks, and the real sidecar at the other end.

    Without overlap scheduling, so that a turn of its loop is a step, and steps with and without the adapter
    do the same work. Nobody listens to its answers: detokenizing happens elsewhere.
    """

    def __init__(self, models: MadeModels, requests: int, context: int) -> None:
        """For at most `requests` at once, of at most `context` tokens."""
        from sglang.srt.managers.scheduler import Scheduler
        from sglang.srt.managers.scheduler_components.output_sender import SenderWrapper
        from sglang.srt.plugins import load_plugins
        from sglang.srt.runtime_context import SpawnRanks, publish, spawn_world_rank
        from sglang.srt.server_args import PortArgs, prepare_server_args

        load_plugins()
        # Hooked, as they are found; what was hooked has SGLang's own within.
        self._methods = {name: compat.resolve(name) for name in compat.HOOKED}
        arguments = prepare_server_args(_arguments(models, requests, context))
        arguments.resolve_once()
        arguments.check_server_args()
        rank = spawn_world_rank(arguments, tp_rank=0, pp_rank=0)
        publish(arguments, role="scheduler", ranks=SpawnRanks(world_rank=rank, gpu_id=0))
        self._context = context
        self._scheduler: Any = Scheduler(arguments, PortArgs.init_new(arguments))
        self._scheduler.output_streamer.send_to_detokenizer = SenderWrapper(None)
        self._worker: Any = self._scheduler.draft_worker
        self._switching: Any = self._worker.adaptive_controller
        self._ingest = self._scheduler.ingest_requests
        self._live: list[Any] = []
        self._made = 0

    @property
    def control(self) -> Any:
        """The adapter."""
        return self._scheduler._turbospec

    def inside(self, work: Callable[[], T]) -> T:
        """Does `work` where SGLang's event loop first looks for requests: the adapter is there by then.

        Raises RuntimeError where control was refused.
        """
        scheduler, done = self._scheduler, []

        def look(*_: Any, **__: Any) -> list[Any]:
            scheduler.ingest_requests = self._look_once
            if self.control is None:
                raise RuntimeError("TurboSpec does not control this engine; its log says why")
            done.append(work())
            scheduler.gracefully_exit = True
            return []

        scheduler.ingest_requests = look
        scheduler.run_event_loop()
        return done[0]

    def hooks(self) -> Watch:
        """Watches the adapter's hooks."""
        return Watch(self.control, _HOOKS)

    def switches(self) -> Watch:
        """Watches SGLang's worker as it takes the runtime state of another length."""
        return Watch(self._worker, ("apply_runtime_state",))

    def set_adapter(self, present: bool) -> None:
        """Puts the hooks around SGLang's methods, or leaves those alone; only while nothing runs."""
        for name, hooked in self._methods.items():
            owner, _, method = name.rpartition(".")
            setattr(compat.resolve(owner), method, hooked if present else inspect.unwrap(hooked))
        if not present:
            self._switching.params.length = None
            self._switching.activate_step_by_batch(1)  # back to the length that the engine was started with
        # An engine that is not controlled has nothing that could switch.
        self._worker.adaptive_controller = self._switching if present else None

    def fill(self, requests: int) -> None:
        """Starts requests and computes their prompts; each time the same ones."""
        self._scheduler.process_input_requests([self._request(i) for i in range(requests)])
        self._live = list(self._scheduler.waiting_queue)
        while any(not request.output_ids for request in self._live):
            self.step()

    def step(self) -> float:
        """Runs one turn of the loop; seconds that it took."""
        self._scheduler.gracefully_exit = False
        began = perf_counter()
        self._scheduler.event_loop_normal()
        return perf_counter() - began

    def tokens(self) -> int:
        """Produced so far by the live requests."""
        return sum(len(request.output_ids) for request in self._live)

    def clear(self) -> None:
        """Aborts all requests."""
        from sglang.srt.managers.io_struct import AbortReq

        self._scheduler.process_input_requests([AbortReq(abort_all=True)])
        self._live.clear()
        while not self._scheduler.is_fully_idle():
            self.step()

    def _look_once(self, *args: Any, **kwargs: Any) -> Any:
        self._scheduler.gracefully_exit = True  # at the end of this turn
        return self._ingest(*args, **kwargs)

    def _request(self, index: int) -> Any:
        from sglang.srt.managers.io_struct import TokenizedGenerateReqInput
        from sglang.srt.sampling.sampling_params import SamplingParams

        self._made += 1
        parameters = SamplingParams(
            max_new_tokens=self._context - _PROMPT_TOKENS - _SLACK_TOKENS, temperature=0.0, ignore_eos=True
        )
        parameters.normalize(self._scheduler.tokenizer)
        return TokenizedGenerateReqInput(
            rid=f"bench-{self._made:08d}",
            input_text="",
            input_ids=array("q", [5 + (17 * index + 7 * j) % 400 for j in range(_PROMPT_TOKENS)]),
            input_embeds=None,
            mm_inputs=None,
            token_type_ids=None,
            sampling_params=parameters,
            return_logprob=False,
            logprob_start_len=-1,
            top_logprobs_num=0,
            token_ids_logprob=None,
            stream=False,
        )


def _arguments(models: MadeModels, requests: int, context: int) -> list[str]:
    return [
        *("--model-path", str(models.target)),
        *stage.speculation(models, stage.STANDALONE, LENGTH),
        *("--dtype", "bfloat16"),
        *("--context-length", str(context)),
        *("--max-running-requests", str(requests)),
        *("--max-total-tokens", str(requests * (context + 4 * _SLACK_TOKENS))),
        "--disable-radix-cache",
        "--disable-overlap-schedule",
        *("--nccl-port", str(free_port())),
        *("--log-level", "warning"),
        *stage.hardware(threads=1).arguments,
    ]
