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
    """Temperatures, top_k and top_p reach draft positions, as the benchmarks' engines repair it."""
    import turbospec.engines.stage.cpu_worker  # noqa: F401 - its import does it
