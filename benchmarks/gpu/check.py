"""Says whether this machine has what the GPU benchmark needs: `python check.py`, in the bundle's folder.

One line per check; the exit status is 1 where something is missing. Needs the standard library only, so that
it can say so even where nothing is installed.
"""
# ruff: noqa: T201 - a script prints

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Finding = tuple[bool, str]
"""Whether it is as it should be, and what was found."""


def checks(manifest: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Finding]]]:
    """Every check with its name."""
    yield "python", lambda: _python(manifest["python"])
    for module in manifest["imports"]:
        yield f"import {module}", lambda module=module: _import(module)
    yield "CUDA", _cuda
    yield "nvidia-smi", lambda: _program("nvidia-smi")
    yield "C compiler", _compiler
    yield "vLLM's command", _command
    yield "adapter's hooks", _hooks
    yield "skipping the drafter", _drafter_hooks


def main(folder: Path) -> int:
    """Runs all checks."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # its own start-up lines are no part of the answer
    manifest = json.loads((folder / "manifest.json").read_text())
    failed = 0
    for name, check in checks(manifest):
        try:
            good, finding = check()
        except Exception as error:  # noqa: BLE001 - what is broken breaks in ways of its own
            good, finding = False, f"{type(error).__name__}: {error}"
        failed += not good
        print(f"{'ok  ' if good else 'MISS'} {name}: {finding}", flush=True)
    print(f"{failed} of the checks failed" if failed else "all is there")
    return int(failed > 0)


def _python(wanted: str) -> Finding:
    found = ".".join(map(str, sys.version_info[:2]))
    return found == wanted, found if found == wanted else f"{found}; the bundle's wheels are for {wanted}"


def _import(name: str) -> Finding:
    module = importlib.import_module(name)
    return True, str(getattr(module, "__version__", "there"))


def _cuda() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return False, f"torch {torch.__version__} sees no GPU"
    one = torch.ones(64, 64, device="cuda", dtype=torch.bfloat16)
    if not bool(((one @ one) == 64).all()):
        return False, "a product of matrices is wrong"
    properties = torch.cuda.get_device_properties(0)
    memory = properties.total_memory / 2**30
    return True, f"{properties.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}, torch {torch.__version__}"


def _program(name: str) -> Finding:
    path = shutil.which(name)
    return path is not None, path or "not in PATH"


def _compiler() -> Finding:
    """Triton compiles what launches its kernels, when they first run."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None or shutil.which(compiler) is None:
        return False, "neither cc, gcc nor clang is in PATH, nor is there what CC names"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return header.exists(), f"{compiler}, {header}" if header.exists() else f"{header} is missing"


def _command() -> Finding:
    from turbospec.engines.vllm import installed_command

    return True, " ".join(installed_command())


def _hooks() -> Finding:
    from turbospec.adapters.vllm import compat

    missing = compat.missing_hooks()
    return not missing, "; ".join(missing) or f"all there in vLLM {compat.engine_version()}"


def _drafter_hooks() -> Finding:
    from turbospec.adapters.vllm import compat

    missing = compat.missing_drafter_hooks()
    return not missing, "; ".join(missing) or "its hooks are all there"


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent))
