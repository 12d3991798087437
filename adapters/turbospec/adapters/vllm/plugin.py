"""What the entry point `vllm.general_plugins` names: the one way into vLLM's worker processes.

vLLM calls `register` once in each of its processes, unguarded, also where TurboSpec is merely installed.
"""

from __future__ import annotations

import os

from turbospec.adapters.address import CONTROL_ADDRESS_VARIABLE


def register() -> None:
    """Prepares this process for steps without the drafter; see `drafter`. Never raises.

    Does nothing, and imports nothing of vLLM's, in an engine that was not started under control.
    """
    if CONTROL_ADDRESS_VARIABLE not in os.environ:
        return
    from vllm.logger import init_logger

    logger = init_logger("vllm.turbospec")
    try:
        from turbospec.adapters.vllm.drafter import hook_workers
        from vllm.v1.worker.worker_base import WorkerWrapperBase

        hook_workers(WorkerWrapperBase, logger)
    # The engine must start whatever an untested vLLM lacks; without the hook the drafter always runs.
    except Exception:
        logger.exception("TurboSpec cannot skip the drafter of this engine.")
