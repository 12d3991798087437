"""Which of a user's vLLM configurations the adapter controls, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from turbospec.adapters.address import CONTROL_ADDRESS_VARIABLE
from turbospec.adapters.support import DISABLE_VARIABLE, MAX_LENGTH, RefusedError, Status
from turbospec.adapters.vllm.methods import METHODS, MethodSupport


def method_support(vllm_config: Any, environ: Mapping[str, str]) -> MethodSupport:
    """What may be controlled in the engine that `vllm_config` describes.

    Raises `RefusedError` where nothing may.
    """
    if environ.get(DISABLE_VARIABLE) == "1":
        raise RefusedError(f"{DISABLE_VARIABLE}=1")
    speculative = vllm_config.speculative_config
    if speculative is None:
        raise RefusedError("speculation is not configured (--speculative-config)")
    _refuse_configurations(vllm_config, speculative)
    runner = 2 if vllm_config.use_v2_model_runner else 1
    support = METHODS.get((speculative.method, runner))
    if support is None:
        raise RefusedError(f"method {speculative.method!r} is not known for model runner {runner}")
    if support.status is Status.REFUSED:
        raise RefusedError(f"method {support.method!r} on model runner {runner}: {support.note}")
    if speculative.parallel_drafting and support.method != "dflash" and runner == 1:
        # The first pass lays out the configured number of slots whatever length it is asked for.
        return replace(
            support, proposal_settable=False, proposal_saves_draft_cost=False, drafter_skippable=False
        )
    return support


def deep_off_obstacle(vllm_config: Any, *, hooked: bool) -> str | None:
    """Why the drafter cannot be skipped in an engine whose method allows it; None where it can.

    `hooked`: the workers of this machine are (see `drafter.hook_workers`).
    """
    parallel = vllm_config.parallel_config
    if parallel.distributed_executor_backend not in ("uni", "mp") or parallel.nnodes > 1:
        return "its workers may run where TurboSpec is not installed"
    if vllm_config.kv_transfer_config is not None:
        return "a KV connector may bring back blocks that were written without the drafter"
    if not hooked:
        return (
            f"vLLM has not loaded TurboSpec's plugin, which needs {CONTROL_ADDRESS_VARIABLE} in the "
            "environment, and 'turbospec' in VLLM_PLUGINS where that is set"
        )
    return None


def _refuse_configurations(vllm_config: Any, speculative: Any) -> None:
    """Raises `RefusedError` for what the adapter's hooks would misread or endanger, whatever the method."""
    parallel = vllm_config.parallel_config
    if vllm_config.model_config.is_diffusion:
        raise RefusedError("diffusion models have no draft tokens to verify")
    if not 1 <= speculative.num_speculative_tokens <= MAX_LENGTH:
        raise RefusedError(
            f"num_speculative_tokens is {speculative.num_speculative_tokens}; between 1 and {MAX_LENGTH}"
        )
    if parallel.pipeline_parallel_size > 1:
        raise RefusedError(
            "pipeline_parallel_size is above 1: micro-batches take turns, so the step before is not "
            "the one that a request's drafts come from"
        )
    if parallel.data_parallel_size > 1:
        # Only ranks that share experts still see a size above 1 here; others are independent engines.
        raise RefusedError("data-parallel ranks that share experts deadlock when their lengths differ")
    if speculative.rejection_sample_method == "block":
        raise RefusedError(
            "rejection_sample_method is 'block': acceptance then depends on the verification length"
        )
    # Absent from vLLM before 0.27.
    if getattr(speculative, "enable_adaptive_verification", False):
        raise RefusedError("enable_adaptive_verification is set: vLLM itself chooses the lengths")
