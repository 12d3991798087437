"""Where processes of vLLM engines come from: forks of one that has imported vLLM and done nothing else.

Importing it takes twice as long as all the rest of starting an engine of tiny models.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from unittest import mock

from support.sidecar import SOURCE_ROOTS

_TESTS = Path(__file__).parents[1]
_ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([SOURCE_ROOTS, str(_TESTS)]),
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # The models are tiny: a second thread only waits for the first, and spins while it does.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # Compiling small helpers takes longer than all they do here.
    "TORCHDYNAMO_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
}


def engine_context() -> ForkServerContext:
    """What starts them. The first call takes as long as the import."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.vllm_imported"])
    # Some of it is read while modules are imported.
    with mock.patch.dict(os.environ, _ENVIRONMENT):
        forkserver.ensure_running()
    return context
