"""The engines of a stage: vLLM with a made pair, under the controller or on its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from turbospec.engines import vllm
from turbospec.engines.models import MadeModels, made_models
from turbospec.engines.processes import Child, Children, free_port, responds
from turbospec.engines.stage.command import MAX_CONCURRENCY
from turbospec.engines.stage.controller import Controller

MODEL_NAME = "made"

OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}  # made models need no network


@dataclass(frozen=True, slots=True)
class Setting:
    """What all engines of a stage have in common: vLLM's arguments, variables, and what a start may take."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    start_seconds: float


ON_CPU = Setting(
    arguments=(
        *("--max-model-len", "1024"),
        *("--max-num-seqs", str(MAX_CONCURRENCY)),
        "--enforce-eager",
        *("--worker-extension-cls", "turbospec.engines.stage.cpu_worker.WorkerExtension"),
    ),
    # GiB; the largest batch needs less than a quarter.
    environment={"VLLM_CPU_KVCACHE_SPACE": "1", **OFFLINE},
    # A first start also compiles kernels; on a loaded machine it takes several times the usual 25 s.
    start_seconds=300.0,
)

DRAFT_MODEL, NGRAM = "draft_model", "ngram"
# At least two tokens must match: after one, most proposals would be wrong.
_NGRAM: dict[str, object] = {"prompt_lookup_min": 2, "prompt_lookup_max": 4}

Table = Sequence[tuple[int, int, int]]
"""vLLM's own lengths by batch size: (first size, last size, length), first sizes ascending from 1."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A started vLLM server. `name` is its engine ID where it is controlled, and that of its log."""

    name: str
    url: str
    process: Child
    start_seconds: float

    def wait_healthy(self) -> None:
        """Returns once it serves. Raises ProcessFailedError where it fails to start."""
        self.process.wait_until(lambda: responds(f"{self.url}/health"), self.start_seconds)


def provide_models(children: Children, directory: Path, agreement: str) -> MadeModels:
    """Makes the models, or finds them made. Raises ProcessFailedError where they cannot be made.

    A process of its own, because a signal that arrives while torch is being imported can get lost.
    """
    argv = [
        *(sys.executable, "-m", "turbospec.cli.main", "engine", "make-models"),
        *(str(directory), "--agreement", agreement),
    ]
    children.start("make-models", argv, {}).wait_done()
    return made_models(directory, agreement)


def start_controlled(
    children: Children,
    name: str,
    models: MadeModels,
    controller: Controller,
    *,
    longest: int,
    method: str = DRAFT_MODEL,
    setting: Setting = ON_CPU,
) -> Engine:
    """Starts, without waiting for it, an engine that follows the controller's plans up to length `longest`.

    `method` is DRAFT_MODEL or NGRAM. Raises NotInstalledError where there is no vLLM.
    """
    url = _free_url()
    arguments = _speculating(models, url, method, {"num_speculative_tokens": longest}, setting)
    program = vllm.installed_command()
    command = vllm.controlled_command(program, arguments, control=controller.control, engine_id=name)
    process = children.start(f"vllm-{name}", command.argv, {**setting.environment, **command.environment})
    return Engine(name, url, process, setting.start_seconds)


def start_with_table(
    children: Children,
    name: str,
    models: MadeModels,
    table: Table,
    *,
    longest: int,
    method: str = DRAFT_MODEL,
    setting: Setting = ON_CPU,
) -> Engine:
    """The same without the controller and its adapter: vLLM follows its own table."""
    url = _free_url()
    lengths = {"num_speculative_tokens": longest, "num_speculative_tokens_per_batch_size": list(table)}
    return _start_plain(children, name, url, _speculating(models, url, method, lengths, setting), setting)


def start_adaptive(
    children: Children,
    name: str,
    models: MadeModels,
    *,
    longest: int,
    method: str = DRAFT_MODEL,
    setting: Setting = ON_CPU,
) -> Engine:
    """The same again: vLLM chooses verification lengths itself (its `enable_adaptive_verification`)."""
    url = _free_url()
    lengths: dict[str, object] = {"num_speculative_tokens": longest, "enable_adaptive_verification": True}
    return _start_plain(children, name, url, _speculating(models, url, method, lengths, setting), setting)


def start_without_speculation(
    children: Children, name: str, models: MadeModels, *, setting: Setting = ON_CPU
) -> Engine:
    """The same engine again, with nothing that speculates."""
    url = _free_url()
    return _start_plain(children, name, url, _arguments(models, url, setting), setting)


def _start_plain(
    children: Children, name: str, url: str, arguments: Sequence[str], setting: Setting
) -> Engine:
    argv = vllm.plain_argv(vllm.installed_command(), arguments)
    child = children.start(f"vllm-{name}", argv, setting.environment)
    return Engine(name, url, child, setting.start_seconds)


def _speculating(
    models: MadeModels, url: str, method: str, lengths: dict[str, object], setting: Setting
) -> list[str]:
    drafter = {"model": str(models.draft)} if method == DRAFT_MODEL else _NGRAM
    config = {"method": method, **drafter, **lengths}
    return [*_arguments(models, url, setting), "--speculative-config", json.dumps(config)]


def _free_url() -> str:
    return f"http://127.0.0.1:{free_port()}"


def _arguments(models: MadeModels, url: str, setting: Setting) -> list[str]:
    return [
        str(models.target),
        *("--served-model-name", MODEL_NAME),
        *("--host", "127.0.0.1"),
        *("--port", url.rpartition(":")[2]),
        *("--dtype", "bfloat16"),
        # Policies see the same prompts one after the other: a cache would favour the later ones.
        "--no-enable-prefix-caching",
        *setting.arguments,
    ]
