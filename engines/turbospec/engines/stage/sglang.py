"""SGLang on a stage: with a made pair, under the controller or on its own.

SGLang publishes its compiled operators for GPUs only. On a CPU it runs where a checkout's tests have put
stand-ins for them; nothing of those is used on a GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Sequence

from turbospec.engines import sglang as launcher
from turbospec.engines.launching import NotInstalledError, version_of
from turbospec.engines.models import MadeModels
from turbospec.engines.processes import Children
from turbospec.engines.stage import counters
from turbospec.engines.stage.command import MAX_CONCURRENCY
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.counters import Counters
from turbospec.engines.stage.engines import Engine, Setting, free_url, serving_arguments

NAME = "SGLang"
LEARNING_SECONDS = 15.0  # with stand-ins its steps take several times as long as vLLM's

_STAND_INS = "turbospec-sglang-cpu"  # their distribution
_NO_GPU = (
    "SGLang does not run on this machine: no GPU is found, and SGLang publishes its compiled operators for "
    "GPUs only. From a checkout of TurboSpec, `make demo ENGINE=sglang` runs it on a CPU, with stand-ins for "
    "them. With vLLM the demonstration needs no GPU: turbospec demo --engine vllm"
)

_MAX_TOKENS = MAX_CONCURRENCY * 256  # prompts and answers of the largest batch, with room for drafts
_ARGUMENTS = (
    *("--max-running-requests", str(MAX_CONCURRENCY)),
    *("--max-total-tokens", str(_MAX_TOKENS)),
    # Policies see the same prompts one after the other: a cache would favour the later ones.
    "--disable-radix-cache",
    # Else the engine that is not under load looks for requests without a pause, which takes a core.
    "--sleep-on-idle",
    "--skip-server-warmup",
)
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # made models need no network
    # Whether it is healthy is asked before it is measured: a request of its own, of a second, is not needed.
    "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0",
}
_START_SECONDS = 300.0
STANDALONE, EAGLE = "STANDALONE", "EAGLE"
_CALL_SECONDS = 60.0  # as in `stage.steering`


def check_runs_here() -> None:
    """Raises NotInstalledError where there is no SGLang, or nothing that it runs on."""
    launcher.installed_command()
    if not _stand_ins() and not _has_accelerator():
        raise NotInstalledError(_NO_GPU)


def start_controlled(
    children: Children,
    name: str,
    models: MadeModels,
    controller: Controller,
    *,
    longest: int,
    method: str = STANDALONE,
) -> Engine:
    """Starts, without waiting for it, an engine that follows the controller's plans up to length `longest`.

    `method`: STANDALONE, or EAGLE with a head in the place of the pair's draft. Raises NotInstalledError
    where there is no SGLang.
    """
    url, setting = free_url(), _setting()
    arguments = [
        *_arguments(models, url, setting),
        *speculation(models, method, longest),
    ]
    program = launcher.installed_command()
    command = launcher.controlled_command(program, arguments, control=controller.control, engine_id=name)
    process = children.start(f"sglang-{name}", command.argv, {**setting.environment, **command.environment})
    return Engine(name, url, process, setting.start_seconds)


def start_without_speculation(children: Children, name: str, models: MadeModels) -> Engine:
    """The same engine again, with nothing that speculates."""
    return _start_plain(children, name, models, [])


def start_adaptive(children: Children, name: str, models: MadeModels) -> Engine:
    """EAGLE without the controller: SGLang chooses lengths by its own defaults (`--speculative-adaptive`)."""
    arguments = ["--speculative-algorithm", EAGLE, "--speculative-draft-model-path", str(models.draft)]
    return _start_plain(children, name, models, [*arguments, "--speculative-adaptive"])


def read_counters(engine: Engine, controller: Controller) -> Counters:
    """The controller's: SGLang takes every step for one of the longest length when it counts drafts.

    Raises OSError where the controller does not answer.
    """
    return counters.read_controller(controller.metrics, engine.name)


def end_requests(engine: Engine) -> None:
    """Ends what runs. By itself SGLang goes on for two seconds after clients are gone.

    Raises OSError where it does not answer.
    """
    request = urllib.request.Request(
        f"{engine.url}/abort_request",
        json.dumps({"abort_all": True}).encode(),
        {"Content-Type": "application/json"},
    )
    # Without a proxy: it is this machine's own address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(request, timeout=_CALL_SECONDS).close()


def speculation(models: MadeModels, method: str, longest: int) -> tuple[str, ...]:
    """Arguments for drafts up to length `longest`, in chains."""
    return (
        *("--speculative-algorithm", method),
        *("--speculative-draft-model-path", str(models.draft)),
        *("--speculative-num-steps", str(longest)),
        *("--speculative-eagle-topk", "1"),
        *("--speculative-num-draft-tokens", str(longest + 1)),
    )


def hardware(threads: int) -> Setting:
    """What this machine asks for: nothing where there is a GPU; `threads` compute on CPUs."""
    if not _stand_ins():
        return Setting((), {}, _START_SECONDS)
    return Setting(
        arguments=(
            *("--device", "cpu"),
            # Named one by one: with one name for both, SGLang falls back to a backend without drafting.
            *("--prefill-attention-backend", "intel_amx"),
            *("--decode-attention-backend", "intel_amx"),
            "--disable-cuda-graph",
        ),
        environment={
            "SGLANG_USE_CPU_ENGINE": "1",
            # Else it asks how much memory each NUMA node has; nothing is bound by it where there is no AMX.
            "SGLANG_CPU_OMP_THREADS_BIND": "0",
            "OMP_NUM_THREADS": str(threads),
            # Compiling small helpers takes longer than all they do here.
            "TORCHDYNAMO_DISABLE": "1",
        },
        start_seconds=_START_SECONDS,
    )


def _start_plain(children: Children, name: str, models: MadeModels, more: Sequence[str]) -> Engine:
    url, setting = free_url(), _setting()
    argv = [*launcher.installed_command(), *_arguments(models, url, setting), *more]
    process = children.start(f"sglang-{name}", argv, setting.environment)
    return Engine(name, url, process, setting.start_seconds)


def _arguments(models: MadeModels, url: str, setting: Setting) -> Sequence[str]:
    return ["--model-path", str(models.target), *serving_arguments(url), *setting.arguments]


def _setting() -> Setting:
    # One core for the controller, the clients and SGLang's other processes: they wait for its threads
    # otherwise, and its threads for them.
    here = hardware(threads=max(1, len(os.sched_getaffinity(0)) - 1))
    return Setting((*_ARGUMENTS, *here.arguments), {**_ENVIRONMENT, **here.environment}, _START_SECONDS)


def _stand_ins() -> bool:
    return version_of(_STAND_INS) is not None


def _has_accelerator() -> bool:
    # In a process of its own: importing torch takes seconds, in which a signal can get lost.
    script = "import sys, torch; sys.exit(not torch.accelerator.is_available())"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    return ended.returncode == 0
