"""Changes an SGLang as another version of it, or another machine, would be changed.

The stand-in's plug-in calls `change` in each process of an engine whose environment has
`TURBOSPEC_TEST_SGLANG_CHANGE`.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import Any

from support.conformance.said import SAID

VARIABLE = "TURBOSPEC_TEST_SGLANG_CHANGE"


def change(how: str) -> None:
    if "sglang.srt.managers.scheduler" not in sys.modules:
        return
    logging.getLogger("turbospec.sglang").addFilter(SAID)
    CHANGES[how]()


def said(_: Any) -> list[str]:
    """The adapter's warnings and errors since the change; see `Engine.call`."""
    return SAID.messages


def _not_taken() -> None:
    """SGLang finds no place for one of the hooks, which it only logs."""
    from sglang.srt.plugins.hook_registry import HookRegistry

    apply = HookRegistry._apply_target

    def apply_some(target: str, hooks: Any) -> None:
        if target.endswith(".run_batch"):
            raise AttributeError("made to fail")
        apply(target, hooks)

    HookRegistry._apply_target = apply_some


def _no_state_for_two(*, first_rank: bool = True) -> None:
    """The runtime state of one length cannot be built, in all ranks or in all but the first."""
    from sglang.srt.runtime_context import get_parallel
    from sglang.srt.speculative.eagle_worker_v2 import EAGLEWorkerV2

    build = EAGLEWorkerV2.build_adaptive_runtime_state

    def short_of_memory(self: Any, speculative_num_steps: int, *args: Any, **kwargs: Any) -> Any:
        if speculative_num_steps == 2 and (first_rank or get_parallel().tp_rank > 0):
            raise MemoryError("made to fail")
        return build(self, speculative_num_steps, *args, **kwargs)

    EAGLEWorkerV2.build_adaptive_runtime_state = short_of_memory


def _blocking_client() -> None:
    """The adapter's client waits on the engine's thread: the negative control of the fail-open checks."""
    from support.blocking_client import BlockingClient
    from turbospec.adapters.sglang import start

    start.ControlClient = BlockingClient  # type: ignore[misc]


def _untested_version() -> None:
    """The adapter was tested with other versions only."""
    from turbospec.adapters import versions

    versions.SGLANG = versions.Tested("SGLang", oldest="0.1.0", newest="0.1.1")


CHANGES = {
    "not-taken": _not_taken,
    "no-state-for-2": _no_state_for_two,
    "no-state-for-2-but-in-first": partial(_no_state_for_two, first_rank=False),
    "blocking-client": _blocking_client,
    "untested-version": _untested_version,
}
