"""What the tests with a real vLLM ask of it."""

from __future__ import annotations

import importlib.util
import random
import shutil
import sysconfig
from pathlib import Path
from typing import Any

from support.vllm_worker import Ask
from turbospec.engines.models import MadeModels

LENGTH = 5
REQUESTS = 24


def make_asks() -> list[Ask]:
    """Prompts that repeat themselves, so that n-gram drafting finds something."""
    rng = random.Random(20240614)
    phrases = [[rng.randrange(4, 500) for _ in range(12)] for _ in range(REQUESTS)]
    return [Ask(prompt=(phrase * 4)[:40], max_tokens=64) for phrase in phrases]


def speculative_config(method: str, models: MadeModels, eagle_head: Path | None = None) -> dict[str, Any]:
    """vLLM's --speculative-config for a method."""
    if method == "suffix":
        return {"method": "suffix", "num_speculative_tokens": LENGTH}
    if method == "eagle":
        return {"method": "eagle", "model": str(eagle_head), "num_speculative_tokens": LENGTH}
    if method == "ngram":
        return {
            "method": "ngram",
            "num_speculative_tokens": LENGTH,
            "prompt_lookup_max": 3,
            "prompt_lookup_min": 1,
        }
    return {"method": method, "model": str(models.draft), "num_speculative_tokens": LENGTH}


def suffix_obstacle() -> str | None:
    """Why suffix decoding cannot run here; None where it can, or where its set-up should have worked."""
    if importlib.util.find_spec("arctic_inference") is not None:
        return None
    compiler = shutil.which("c++") is not None
    headers = (Path(sysconfig.get_path("include")) / "Python.h").exists()
    if compiler and headers:
        return None
    return f"suffix decoding's drafter could not be built: no {'Python.h' if compiler else 'C++ compiler'}"


def differing(outputs: list[list[int]], reference: list[list[int]]) -> list[int]:
    """Indices of requests whose tokens are not the reference's."""
    return [i for i, (got, expected) in enumerate(zip(outputs, reference, strict=True)) if got != expected]
