"""What vLLM's CPU build leaves out or gets wrong, put right where tests need it as it is on GPUs."""

from __future__ import annotations

from typing import Any


def keep_asynchronous() -> None:
    """vLLM's CPU platform turns asynchronous scheduling off as "not required"; it works all the same."""
    from vllm.platforms.cpu import CpuPlatform

    check = CpuPlatform.check_and_update_config.__func__

    def check_and_restore(cls: type[CpuPlatform], vllm_config: Any) -> None:
        asynchronous = vllm_config.scheduler_config.async_scheduling
        check(cls, vllm_config)
        vllm_config.scheduler_config.async_scheduling = asynchronous

    CpuPlatform.check_and_update_config = classmethod(check_and_restore)  # type: ignore[method-assign]


def repair_expansion() -> None:
    """Temperatures, top_k and top_p reach draft positions.

    In vLLM 0.32 the CPU stand-in for this kernel writes into a copy and drops it, so that the verification of
    every batch with a sampled request reads uninitialised memory, with or without an adapter.
    """
    from vllm.v1.sample import rejection_sampler

    def expand(values: Any, ends: Any, total: int, replace_from: float = 0, replace_to: float = 0) -> Any:
        counts = ends.diff(prepend=ends.new_zeros(1))
        replaced = values.where(values != replace_from, replace_to)
        return replaced.repeat_interleave(counts, output_size=total)

    rejection_sampler.expand_batch_to_tokens = expand
