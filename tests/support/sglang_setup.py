"""How tests start SGLang on a CPU: the environment of its processes, its arguments, what is asked of it."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass, field
from typing import Any

STEPS = 4
REQUESTS = 24
OVERLAP_VARIABLE = "TURBOSPEC_TEST_SGLANG_OVERLAP"

ENVIRONMENT = {
    "SGLANG_USE_CPU_ENGINE": "1",
    # Compiling small helpers takes longer than all they do here.
    "TORCHDYNAMO_DISABLE": "1",
    # The models are tiny: a second thread only waits for the first, and spins while it does.
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}


@dataclass
class EngineOptions:
    """How to start an engine.

    `method`: SGLang's `--speculative-algorithm` STANDALONE, EAGLE or NGRAM, with `draft` (a directory) and
    `steps` as its longest proposal, one branch only; None: no speculation. `overlap`: with a step's results
    processed after the next one has been started, which SGLang turns off on CPUs. `ranks`: of tensor
    parallelism. `environ`: variables of the engine's processes; the adapter is switched on by them.
    `arguments`: more of SGLang's arguments, by the names of its `ServerArgs`.
    """

    model: str
    method: str | None = None
    draft: str | None = None
    steps: int = STEPS
    overlap: bool = False
    ranks: int = 1
    environ: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """The variables to add to those of this process."""
        processes = self.ranks * self.arguments.get("dp_size", 1)
        # One entry for each process, or SGLang wants a NUMA node for each. No threads are bound by it here.
        cores = {"SGLANG_CPU_OMP_THREADS_BIND": "|".join(["0"] * processes)}
        return {**ENVIRONMENT, **cores, OVERLAP_VARIABLE: str(int(self.overlap)), **self.environ}

    def server_args(self) -> dict[str, Any]:
        """SGLang's arguments, by the names of its `ServerArgs`."""
        speculative: dict[str, Any] = {}
        if self.method is not None:
            speculative = {
                "speculative_algorithm": self.method,
                "speculative_num_draft_tokens": self.steps + 1,
            }
        if self.method == "NGRAM":
            speculative["speculative_ngram_max_bfs_breadth"] = 1
        elif self.method is not None:
            speculative |= {
                "speculative_draft_model_path": self.draft,
                "speculative_num_steps": self.steps,
                "speculative_eagle_topk": 1,
            }
        return {
            "model_path": self.model,
            "device": "cpu",
            "dtype": "float32",
            # Named one by one: with one name for both, SGLang falls back to a backend without drafting.
            "prefill_attention_backend": "intel_amx",
            "decode_attention_backend": "intel_amx",
            "disable_cuda_graph": True,
            "disable_overlap_schedule": not self.overlap,
            "disable_radix_cache": True,
            "max_total_tokens": 8192,
            "max_running_requests": 8,
            "tp_size": self.ranks,
            "random_seed": 0,
            "log_level": "warning",
            **speculative,
            **self.arguments,
        }

    def flags(self) -> list[str]:
        """The same for the command line of `sglang.launch_server`."""
        flags = []
        for name, value in self.server_args().items():
            flag = f"--{name.replace('_', '-')}"
            if value is True:
                flags.append(flag)
            elif value is not None and value is not False:
                flags += [flag, json.dumps(value) if isinstance(value, dict) else str(value)]
        return flags


@dataclass
class Ask:
    """One greedy request, to its last token.

    It comes once the engine has done `start_at` steps for those before it, and is taken back after
    `abort_after` steps in all. `custom_params`: what its caller sends along. `sampling`: more of SGLang's
    `SamplingParams`.
    """

    prompt: list[int]
    max_tokens: int
    start_at: int = 0
    abort_after: int | None = None
    custom_params: dict[str, Any] | None = None
    sampling: dict[str, Any] = field(default_factory=dict)


@dataclass
class Answer:
    """What came of a request. `verify_passes` and `accepted`: as SGLang itself counted them for it."""

    tokens: list[int]
    finish: dict[str, Any] | None
    verify_passes: int
    accepted: int


def ngram_obstacle() -> str | None:
    """Why NGRAM cannot run here: SGLang compiles its drafter when it is first used."""
    return None if shutil.which("c++") else "NGRAM's drafter cannot be built: no C++ compiler"


def make_asks() -> list[Ask]:
    """Requests of different lengths that come at different times, more of them than run at once.

    Prompts repeat themselves, so that n-gram drafting finds something.
    """
    rng = random.Random(20240614)
    asks = []
    for index in range(REQUESTS):
        phrase = [rng.randrange(4, 500) for _ in range(12)]
        prompt = (phrase * 4)[: rng.randrange(13, 45)]
        asks.append(Ask(prompt=prompt, max_tokens=rng.randrange(96, 161), start_at=index // 4 * 9))
    return asks
