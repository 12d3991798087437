"""vLLM on a stage: with a made pair, under the controller or on its own."""

from __future__ import annotations

import json
from collections.abc import Sequence

from turbospec.engines import vllm as launcher
from turbospec.engines.models import MadeModels
from turbospec.engines.processes import Children
from turbospec.engines.stage import counters
from turbospec.engines.stage.command import MAX_CONCURRENCY
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.counters import Counters
from turbospec.engines.stage.engines import Engine, Setting, free_url, serving_arguments

NAME = "vLLM"
LEARNING_SECONDS = 2.0
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}  # made models need no network

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


def check_runs_here() -> None:
    """Raises NotInstalledError where there is no vLLM."""
    launcher.installed_command()


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
    url = free_url()
    arguments = _speculating(models, url, method, {"num_speculative_tokens": longest}, setting)
    program = launcher.installed_command()
    command = launcher.controlled_command(program, arguments, control=controller.control, engine_id=name)
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
    url = free_url()
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
    url = free_url()
    lengths: dict[str, object] = {"num_speculative_tokens": longest, "enable_adaptive_verification": True}
    return _start_plain(children, name, url, _speculating(models, url, method, lengths, setting), setting)


def start_without_speculation(
    children: Children, name: str, models: MadeModels, *, setting: Setting = ON_CPU
) -> Engine:
    """The same engine again, with nothing that speculates."""
    url = free_url()
    return _start_plain(children, name, url, _arguments(models, url, setting), setting)


def read_counters(engine: Engine, controller: Controller) -> Counters:  # noqa: ARG001 - a second opinion
    """vLLM's own. Raises OSError where it does not answer."""
    return counters.read(engine.url)


def end_requests(engine: Engine) -> None:
    """Nothing to do: vLLM ends a request as soon as its client is gone."""


def _start_plain(
    children: Children, name: str, url: str, arguments: Sequence[str], setting: Setting
) -> Engine:
    argv = launcher.plain_argv(launcher.installed_command(), arguments)
    child = children.start(f"vllm-{name}", argv, setting.environment)
    return Engine(name, url, child, setting.start_seconds)


def _speculating(
    models: MadeModels, url: str, method: str, lengths: dict[str, object], setting: Setting
) -> list[str]:
    drafter = {"model": str(models.draft)} if method == DRAFT_MODEL else _NGRAM
    config = {"method": method, **drafter, **lengths}
    return [*_arguments(models, url, setting), "--speculative-config", json.dumps(config)]


def _arguments(models: MadeModels, url: str, setting: Setting) -> list[str]:
    return [
        str(models.target),
        *serving_arguments(url),
        # Policies see the same prompts one after the other: a cache would favour the later ones.
        "--no-enable-prefix-caching",
        *setting.arguments,
    ]
