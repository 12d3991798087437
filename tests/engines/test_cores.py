"""Benchmarks on a CPU keep the model's computing apart from all else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from turbospec.engines.stage.cores import kept_apart

CORES = sorted(os.sched_getaffinity(0))
_SHOW = "import os; print(sorted(os.sched_getaffinity(0)), os.environ.get('VLLM_CPU_OMP_THREADS_BIND'))"


def _seen_by_a_child() -> str:
    return subprocess.run(
        [sys.executable, "-c", _SHOW], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.skipif(len(CORES) < 2, reason="with one core there is nothing to keep apart")
def test_all_else_is_on_the_last_core_and_the_worker_on_the_others() -> None:
    """What is started in the block inherits it; afterwards all is as it was."""
    with kept_apart():
        assert _seen_by_a_child() == f"[{CORES[-1]}] {','.join(map(str, CORES[:-1]))}"
    assert _seen_by_a_child() == f"{CORES} None"


def test_a_person_who_has_bound_the_worker_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is changed."""
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0")
    with kept_apart():
        assert _seen_by_a_child() == f"{CORES} 0"
