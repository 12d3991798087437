"""A real vLLM engine in this process: its core, stepped by hand, filled with the same requests each time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import Any, TypeVar

from turbospec.engines.bench.hotpath.hooks import Watch
from turbospec.engines.bench.hotpath.plan import LENGTH
from turbospec.engines.models import MadeModels
from turbospec.engines.vllm import SCHEDULER_CLASS

T = TypeVar("T")

_HOOKS = ("before_schedule", "after_schedule", "before_update", "after_update")
_PROMPT_TOKENS = 16

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


EAGER: Mapping[str, Any] = {"enforce_eager": True}


class Engine:
    """vLLM's engine core with TurboSpec's scheduler and the real sidecar at the other end."""

    def __init__(
        self,
        models: MadeModels,
        requests: int,
        context: int,
        *,
        length: int = LENGTH,
        arguments: Mapping[str, Any] = EAGER,
    ) -> None:
        """For at most `requests` at once, of at most `context` tokens; `length` is the longest of drafts.

        `arguments` are vLLM's further ones. Raises RuntimeError where control was refused.
        """
        from vllm import LLM

        self._context = context
        self._llm = LLM(
            model=str(models.target),
            speculative_config={
                "method": "draft_model",
                "model": str(models.draft),
                "num_speculative_tokens": length,
            },
            scheduler_cls=SCHEDULER_CLASS,
            dtype="bfloat16",
            max_model_len=context,
            max_num_seqs=requests,
            enable_prefix_caching=False,
            disable_log_stats=True,
            **arguments,
        )
        # Its `get_output` is a step of the core, without the detokenizing that a server does elsewhere.
        self._client: Any = self._llm.llm_engine.engine_core
        self._core: Any = self._client.engine_core
        self._scheduler: Any = self._core.scheduler
        self._controlled = type(self._scheduler)
        if not hasattr(self._scheduler, "_turbospec"):
            raise RuntimeError("TurboSpec does not control this engine; its log says why")
        self._live: list[str] = []
        self._made = 0

    @property
    def control(self) -> Any:
        """The adapter."""
        return self._scheduler._turbospec

    def inside(self, work: Callable[[], T]) -> T:
        """Does `work`, in which steps may be run."""
        return work()

    def hooks(self) -> Watch:
        """Watches the adapter's hooks."""
        return Watch(self.control, _HOOKS)

    def switches(self) -> Watch:
        """Watches nothing: another length is another argument."""
        return Watch(self.control, ())

    def set_adapter(self, present: bool) -> None:
        """Puts the adapter into the scheduler, or vLLM's own methods back; only while nothing runs."""
        self._scheduler.__class__ = self._controlled if present else self._controlled.__base__

    def fill(self, requests: int, prompt_tokens: int = _PROMPT_TOKENS) -> None:
        """Starts requests and computes their prompts; each time the same ones."""
        from vllm import SamplingParams

        for i in range(requests):
            self._made += 1
            request_id = f"bench-{self._made:08d}"
            prompt = [5 + (17 * i + 7 * j) % 400 for j in range(prompt_tokens)]
            parameters = SamplingParams(
                temperature=0.0, max_tokens=self._context - prompt_tokens, ignore_eos=True
            )
            self._llm.llm_engine.add_request(request_id, {"prompt_token_ids": prompt}, parameters)
            self._live.append(request_id)
        while any(not request.num_output_tokens for request in self._scheduler.requests.values()):
            self.step()

    def step(self) -> float:
        """Runs one step of the core; seconds that it took."""
        began = perf_counter()
        self._client.get_output()
        return perf_counter() - began

    def tokens(self) -> int:
        """Produced so far by the live requests."""
        return sum(request.num_output_tokens for request in self._scheduler.requests.values())

    def clear(self) -> None:
        """Aborts all requests."""
        self._llm.llm_engine.abort_request(self._live)
        self._live.clear()
        while self._core.batch_queue:  # with asynchronous scheduling, steps are in flight
            self._core.step_fn()
        self.step()  # lets the workers forget them


def pin(process: int, cores: Iterable[int]) -> None:
    """Binds all threads of a process to `cores`, and those that they will start."""
    for thread in os.listdir(f"/proc/{process}/task"):
        os.sched_setaffinity(int(thread), cores)
