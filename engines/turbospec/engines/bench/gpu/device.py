"""What the benchmark's engines run on, and the arguments that vLLM gets there."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from turbospec.engines.bench.gpu.plan import Scale
from turbospec.engines.instant_models import LOAD_FORMAT
from turbospec.engines.stage.engines import Setting
from turbospec.engines.stage.vllm import OFFLINE

_EXTENSION = "turbospec.engines.stage.gpu_worker.WorkerExtension"
# Four engines with an 8B target, its draft and their KV cache. With less they are fewer, for fewer requests.
_FOUR_ENGINES_GIB = 120.0
_KV_CACHE_GIB, _SMALLER_KV_CACHE_GIB = 10, 4
_SMALLER_CONCURRENCIES, _SMALLER_REQUESTS = (1, 8, 32, 64), 64


def accelerator() -> str | None:
    """The first accelerator's name; None where there is none."""
    return _first_of("name")


def memory_gib() -> float | None:
    """The first accelerator's memory; None where there is none."""
    mebibytes = _first_of("memory.total")
    return None if mebibytes is None else float(mebibytes) / 1024


def _first_of(property: str) -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, f"--query-gpu={property}", "--format=csv,noheader,nounits"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = ended.stdout.splitlines()
    return lines[0].strip() if ended.returncode == 0 and lines else None


def holds_all_engines(scale: Scale) -> bool:
    """Whether every policy that needs an engine of its own can have it at the same time."""
    memory = memory_gib()
    return not scale.on_accelerator or memory is None or memory >= _FOUR_ENGINES_GIB


def fitted(scale: Scale) -> Scale:
    """The scale as this device can hold it."""
    if holds_all_engines(scale):
        return scale
    phases = tuple(min(phase, _SMALLER_REQUESTS) for phase in scale.phases)
    return replace(scale, concurrencies=_SMALLER_CONCURRENCIES, max_requests=_SMALLER_REQUESTS, phases=phases)


def serving(scale: Scale, *, asynchronous: bool) -> Setting:
    """Engines that serve side by side on one device, as vLLM runs by default save for their memory.

    `asynchronous`: with a step scheduled ahead. Where drafts come from a model, vLLM 0.26 does not do that by
    default; later versions do.
    """
    arguments = [
        *("--load-format", LOAD_FORMAT),
        *("--worker-extension-cls", _EXTENSION),
        *("--max-model-len", str(scale.max_context)),
        *("--max-num-seqs", str(scale.max_requests)),
    ]
    environment = dict(OFFLINE)
    if scale.on_accelerator:
        gib = _KV_CACHE_GIB if holds_all_engines(scale) else _SMALLER_KV_CACHE_GIB
        # Given, not profiled: several engines that start at once would each take the others' memory for its
        # own. The share of memory is only what must be free at the start.
        arguments += ["--kv-cache-memory-bytes", str(gib << 30), "--gpu-memory-utilization", "0.1"]
        if asynchronous:
            arguments.append("--async-scheduling")
    else:
        arguments.append("--enforce-eager")
        environment["VLLM_CPU_KVCACHE_SPACE"] = "1"
    return Setting(tuple(arguments), environment, scale.engine_seconds)


def in_process(scale: Scale, *, asynchronous: bool, eager: bool = False) -> dict[str, Any]:
    """Further arguments of an engine in the measuring process."""
    arguments: dict[str, Any] = {
        "load_format": LOAD_FORMAT,
        "worker_extension_cls": _EXTENSION,
        "async_scheduling": asynchronous,
    }
    if eager or not scale.on_accelerator:
        arguments["enforce_eager"] = True
    return arguments


def in_process_environment(scale: Scale) -> dict[str, str]:
    """Its variables."""
    environment = {
        **OFFLINE,
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
    if not scale.on_accelerator:
        environment |= {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
            "NUMBA_NUM_THREADS": "1",
            "TORCHDYNAMO_DISABLE": "1",  # compiling small helpers takes longer than all they do here
        }
    return environment


def keep_asynchronous() -> None:
    """vLLM's CPU platform turns asynchronous scheduling off as not required; it works all the same."""
    from vllm.platforms.cpu import CpuPlatform

    check = CpuPlatform.check_and_update_config.__func__

    def check_and_restore(cls: Any, vllm_config: Any) -> None:
        asynchronous = vllm_config.scheduler_config.async_scheduling
        check(cls, vllm_config)
        vllm_config.scheduler_config.async_scheduling = asynchronous

    CpuPlatform.check_and_update_config = classmethod(check_and_restore)


def has_adaptive_verification() -> bool:
    """Whether the installed vLLM can choose verification lengths itself; says so without importing it."""
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        return False
    source = Path(found.origin).parent / "config" / "speculative.py"
    return source.exists() and "enable_adaptive_verification" in source.read_text()
