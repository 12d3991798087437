"""Cores for benchmarks on a CPU: the model's computing has its own, as an accelerator would.

vLLM binds its worker to cores, but its other processes, the load and the controller wander over all of them
and take the worker's: windows of one policy then differ by 15%, by where the kernel happened to put them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_WORKER_CORES = "VLLM_CPU_OMP_THREADS_BIND"


@contextmanager
def kept_apart() -> Iterator[None]:
    """In the block, this process and those that it starts run on the last core, vLLM's workers on all others.

    Nothing is changed where there is only one core, or where the environment already says where workers run.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2 or _WORKER_CORES in os.environ:
        yield
        return
    os.environ[_WORKER_CORES] = ",".join(map(str, cores[:-1]))
    os.sched_setaffinity(0, cores[-1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        del os.environ[_WORKER_CORES]
