"""What the demonstration runs: the controller, vLLM under it, and vLLM without speculation."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import grpc
from turbospec.engines import vllm
from turbospec.engines.models import MadeModels, made_models
from turbospec.engines.processes import Child, Children, free_port, responds

ENGINE_ID = "demo"
STATIC_LENGTH = 4
"""The engine's own length: what an operator would typically have configured."""
MODEL_NAME = "made"
MAX_CONCURRENCY = 64

# A first start also compiles kernels; on a loaded machine it takes several times the usual 25 s.
_ENGINE_START_SECONDS = 300.0
_CONTROLLER_START_SECONDS = 30.0

_ENGINE_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB; the largest batch needs less than a tenth
    "HF_HUB_OFFLINE": "1",  # made models need no network
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything's addresses: gRPC targets for the controller, URLs for the engines."""

    control: str
    operations: str
    introspection: str
    controlled: str
    plain: str

    @classmethod
    def choose(cls, sockets: Path) -> Stage:
        """Free ports, and sockets in the directory `sockets`."""
        ports = [free_port() for _ in range(3)]
        return cls(
            control=f"unix:{sockets / 'control.sock'}",
            operations=f"unix:{sockets / 'operations.sock'}",
            introspection=f"127.0.0.1:{ports[0]}",
            controlled=f"http://127.0.0.1:{ports[1]}",
            plain=f"http://127.0.0.1:{ports[2]}",
        )


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


def start_controller(children: Children, stage: Stage) -> Child:
    """Starts `turbospec serve` and waits until it serves."""
    argv = [
        *(sys.executable, "-m", "turbospec.cli.main", "serve"),
        *("--control-address", stage.control),
        *("--operations-address", stage.operations),
        *("--introspection-address", stage.introspection),
    ]
    child = children.start("controller", argv, {})
    channel = grpc.insecure_channel(stage.introspection, options=[("grpc.enable_http_proxy", 0)])
    ready = grpc.channel_ready_future(channel)
    try:
        child.wait_until(ready.done, _CONTROLLER_START_SECONDS)
    finally:
        ready.cancel()
        channel.close()
    return child


def start_engines(children: Children, stage: Stage, models: MadeModels) -> tuple[Child, Child]:
    """Starts both engines, controlled and plain, without waiting for them."""
    program = vllm.installed_command()
    speculative = {
        "method": "draft_model",
        "model": str(models.draft),
        "num_speculative_tokens": STATIC_LENGTH,
    }
    arguments = [*_arguments(models, stage.controlled), "--speculative-config", json.dumps(speculative)]
    command = vllm.controlled_command(program, arguments, control=stage.control, engine_id=ENGINE_ID)
    controlled = children.start(
        "vllm-controlled", command.argv, {**_ENGINE_ENVIRONMENT, **command.environment}
    )
    argv = vllm.plain_argv(program, _arguments(models, stage.plain))
    return controlled, children.start("vllm-none", argv, _ENGINE_ENVIRONMENT)


def wait_engine(child: Child, url: str) -> None:
    """Returns once the engine at `url` is healthy. Raises ProcessFailedError where it fails to start."""
    child.wait_until(lambda: responds(f"{url}/health"), _ENGINE_START_SECONDS)


def _arguments(models: MadeModels, url: str) -> list[str]:
    return [
        str(models.target),
        *("--served-model-name", MODEL_NAME),
        *("--host", "127.0.0.1"),
        *("--port", url.rpartition(":")[2]),
        *("--dtype", "bfloat16"),
        *("--max-model-len", "1024"),
        *("--max-num-seqs", str(MAX_CONCURRENCY)),
        # Policies see the same prompts one after the other: a cache would favour the later ones.
        "--no-enable-prefix-caching",
        "--enforce-eager",
    ]
