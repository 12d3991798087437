"""What the engines of a stage have in common: made models, a name, an address, and being waited for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from turbospec.engines.models import MadeModels, made_models
from turbospec.engines.processes import Child, Children, free_port, responds

MODEL_NAME = "made"
"""What clients call the target."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all of a stage's engines are started with: arguments, variables, and what a start may take."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    start_seconds: float


@dataclass(frozen=True, slots=True)
class Engine:
    """A started server. `name` is its engine ID where it is controlled, and that of its log."""

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


def free_url() -> str:
    """An address of this machine's own that nothing used a moment ago."""
    return f"http://127.0.0.1:{free_port()}"


def serving_arguments(url: str) -> list[str]:
    """Arguments that all engines know by the same names: the model's, and where to listen."""
    return [
        *("--served-model-name", MODEL_NAME),
        *("--host", "127.0.0.1"),
        *("--port", url.rpartition(":")[2]),
        *("--dtype", "bfloat16"),
    ]
