"""What the entry point `sglang.srt.plugins` names: the way into SGLang's processes.

SGLang calls `register` once in each of its processes, also where TurboSpec is merely installed.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys

from turbospec.adapters.address import CONTROL_ADDRESS_VARIABLE
from turbospec.adapters.support import DISABLE_VARIABLE

logger = logging.getLogger("turbospec.sglang")

_SCHEDULER_MODULE = "sglang.srt.managers.scheduler"


def register() -> None:
    """Registers the adapter's hooks in processes that can have a scheduler. Never raises.

    Does nothing, and imports nothing of SGLang's, in an engine that was not started under control.
    """
    if CONTROL_ADDRESS_VARIABLE not in os.environ:
        return
    if os.environ.get(DISABLE_VARIABLE) == "1":
        if multiprocessing.parent_process() is None:
            logger.warning("TurboSpec does not control this engine: %s=1.", DISABLE_VARIABLE)
        return
    # Elsewhere, as in the detokenizer's process, hooks would only load all that a scheduler needs.
    if _SCHEDULER_MODULE not in sys.modules:
        return
    try:
        _register()
    # The engine must start whatever an untested SGLang lacks.
    except Exception:
        logger.exception("TurboSpec does not control this engine: its hooks could not be registered.")


def _register() -> None:
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType
    from turbospec.adapters.sglang import compat
    from turbospec.adapters.sglang.hooks import Hooks

    if missing := compat.missing_hooks():
        logger.warning(
            "TurboSpec does not control this engine: this SGLang differs from the tested ones: %s.",
            "; ".join(missing),
        )
        return
    Hooks(logger).register(HookRegistry, HookType.AROUND)
