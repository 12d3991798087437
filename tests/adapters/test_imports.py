from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_client_imports_nothing_heavy() -> None:
    """An engine's environment needs gRPC and protobuf for the client and nothing else."""
    program = (
        "import sys, turbospec.adapters.client\n"
        "heavy = {'scipy', 'torch', 'numpy', 'structlog', 'vllm', 'turbospec.sidecar', 'turbospec.engines'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    path = f"{ROOT / 'proto'}:{ROOT / 'sidecar'}:{ROOT / 'adapters'}:{ROOT / 'engines'}"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
