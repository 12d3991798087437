"""Whether the vLLM that is installed has what the adapter holds on to.

vLLM does not promise its scheduler's interface to others. So the adapter states what it uses, here, and
looks before it starts: on a vLLM that differs it refuses, instead of failing in the middle of a step.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

# Method and the parameters that the adapter's override passes on or reads.
_SCHEDULER_HOOKS: dict[str, tuple[str, ...]] = {
    "schedule": (),
    "_update_after_schedule": ("scheduler_output",),
    "update_from_output": ("scheduler_output", "model_runner_output"),
    "_free_request": ("request",),
    "shutdown": (),
}
_SCHEDULER_ATTRIBUTES = (
    "running",
    "requests",
    "kv_cache_manager",
    "num_lookahead_tokens",
    "max_num_scheduled_tokens",
)
_REQUEST_ATTRIBUTES = (
    "request_id",
    "num_tokens",
    "spec_token_ids",
    "num_output_placeholders",
    "num_preemptions",
    "num_prompt_tokens",
    "_output_token_ids",
    "max_tokens",
    "sampling_params",
)
_SCHEDULER_OUTPUT_FIELDS = (
    "num_scheduled_tokens",
    "num_spec_tokens_to_schedule",
    "num_invalid_spec_tokens",
    "scheduled_spec_decode_tokens",
    "scheduled_new_reqs",
    "scheduled_cached_reqs",
    "preempted_req_ids",
    "pending_structured_output_tokens",
)
_CACHED_REQUEST_FIELDS = ("req_ids", "resumed_req_ids", "num_computed_tokens", "num_output_tokens")
# What `drafter` uses of model runner 1, and `readiness` and `gaps` of the scheduler's KV cache beside what
# `memory` does.
_RUNNER_HOOKS = {
    "_prepare_inputs": ("scheduler_output",),
    "propose_draft_token_ids": ("scheduler_output", "sampled_token_ids"),
    "_copy_valid_sampled_token_count": ("next_token_ids", "valid_sampled_tokens_count"),
}
_RUNNER_ATTRIBUTES = (
    "drafter",
    "requests",
    "input_batch",
    "device",
    "discard_request_mask",
    "valid_sampled_token_count_event",
    "_draft_probs",
    "_draft_prob_req_ids",
)
_KV_CACHE_ATTRIBUTES = ("enable_caching", "evict_blocks")
_SPECULATIVE_FIELDS = (
    "method",
    "model",
    "num_speculative_tokens",
    "parallel_drafting",
    "rejection_sample_method",
    "use_eagle",
    "uses_draft_model",
)


def engine_version() -> str:
    """Version of the installed vLLM. Raises `ImportError` where there is none."""
    import vllm

    return str(vllm.__version__)


def missing_hooks() -> list[str]:
    """What the adapter relies on and the installed vLLM lacks, one line each; empty where all is there.

    Raises `ImportError` where vLLM, or one of the modules that the adapter uses, cannot be imported.
    """
    return list(_missing())


def missing_drafter_hooks() -> list[str]:
    """The same for what leaving out the drafter relies on."""
    return list(_missing_for_deep_off())


def _missing_for_deep_off() -> Iterator[str]:
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.core.sched.output import CachedRequestData, NewRequestData
    from vllm.v1.spec_decode.llm_base_proposer import SpecDecodeBaseProposer
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    for method, parameters in _RUNNER_HOOKS.items():
        yield from _missing_parameters(GPUModelRunner, method, parameters)
    yield from _missing_attributes(GPUModelRunner, _RUNNER_ATTRIBUTES)
    yield from _missing_parameters(
        SpecDecodeBaseProposer,
        "prepare_next_token_ids_padded",
        ("sampled_token_ids", "requests", "gpu_input_batch", "discard_request_mask"),
    )
    yield from _missing_attributes(KVCacheManager, _KV_CACHE_ATTRIBUTES)
    yield from _missing_attributes(BlockPool, ("null_block",))
    yield from _missing_attributes(NewRequestData, ("block_ids", "num_computed_tokens"))
    yield from _missing_attributes(
        CachedRequestData, ("req_ids", "resumed_req_ids", "new_block_ids", "num_computed_tokens")
    )


def _missing() -> Iterator[str]:
    from vllm.config import ModelConfig, SpeculativeConfig, VllmConfig
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_coordinator import KVCacheCoordinator
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler
    from vllm.v1.core.sched.output import CachedRequestData, NewRequestData, SchedulerOutput
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.core.single_type_kv_cache_manager import SingleTypeKVCacheManager
    from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.outputs import ModelRunnerOutput
    from vllm.v1.request import Request

    if not issubclass(AsyncScheduler, Scheduler):
        yield "AsyncScheduler is not a Scheduler"
    for scheduler in (Scheduler, AsyncScheduler):
        for method, parameters in _SCHEDULER_HOOKS.items():
            yield from _missing_parameters(scheduler, method, parameters)
    yield from _missing_attributes(Scheduler, _SCHEDULER_ATTRIBUTES)
    yield from _missing_attributes(Request, _REQUEST_ATTRIBUTES)
    yield from _missing_attributes(SchedulerOutput, _SCHEDULER_OUTPUT_FIELDS)
    yield from _missing_attributes(CachedRequestData, _CACHED_REQUEST_FIELDS)
    yield from _missing_attributes(NewRequestData, ("req_id",))
    yield from _missing_attributes(ModelRunnerOutput, ("sampled_token_ids", "req_id_to_index"))
    yield from _missing_attributes(EngineCoreOutput, ("new_token_ids",))
    yield from _missing_attributes(EngineCoreOutputs, ("outputs",))
    yield from _missing_parameters(EngineCore, "post_step", ("model_executed",))
    yield from _missing_attributes(KVCacheManager, ("usage", "coordinator", "block_pool"))
    yield from _missing_attributes(KVCacheCoordinator, ("single_type_managers",))
    yield from _missing_attributes(SingleTypeKVCacheManager, ("block_size", "req_to_blocks"))
    yield from _missing_attributes(BlockPool, ("get_num_free_blocks",))
    yield from _missing_attributes(VllmConfig, ("use_v2_model_runner",))
    yield from _missing_attributes(ModelConfig, ("is_diffusion",))
    yield from _missing_attributes(SpeculativeConfig, _SPECULATIVE_FIELDS)


def _missing_parameters(cls: Any, method: str, parameters: Iterable[str]) -> Iterator[str]:
    function = getattr(cls, method, None)
    if function is None:
        yield f"{cls.__name__}.{method} is missing"
        return
    present = inspect.signature(function).parameters
    for parameter in parameters:
        if parameter not in present:
            yield f"{cls.__name__}.{method} has no parameter {parameter!r}"


def _missing_attributes(cls: Any, attributes: Iterable[str]) -> Iterator[str]:
    """Attributes that neither the class has nor its constructor sets."""
    known = {*dir(cls), *inspect.get_annotations(cls)}
    constructor = inspect.unwrap(cls.__init__)
    if inspect.isfunction(constructor):
        known.update(constructor.__code__.co_names)
    for attribute in attributes:
        if attribute not in known:
            yield f"{cls.__name__}.{attribute} is missing"
