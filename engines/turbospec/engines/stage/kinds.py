"""The engines that a stage can have. What differs between them is in a module for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from turbospec.engines.models import MadeModels
from turbospec.engines.processes import Children
from turbospec.engines.stage import sglang, vllm
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.counters import Counters
from turbospec.engines.stage.engines import Engine


class EngineKind(Protocol):
    """What such a module has.

    `NAME` is what people call the engine. Within `LEARNING_SECONDS` under load it has done enough steps for
    the controller to know what they cost and what is accepted.
    """

    NAME: str
    LEARNING_SECONDS: float

    def check_runs_here(self) -> None:
        """Raises NotInstalledError, which says why, where the engine cannot run on this machine."""

    def start_controlled(
        self, children: Children, name: str, models: MadeModels, controller: Controller, *, longest: int
    ) -> Engine:
        """Starts, without waiting for it, an engine that follows the controller's plans up to a length.

        Raises NotInstalledError.
        """

    def start_without_speculation(self, children: Children, name: str, models: MadeModels) -> Engine:
        """The same engine again, with nothing that speculates. Raises NotInstalledError."""

    def read_counters(self, engine: Engine, controller: Controller) -> Counters:
        """What the engine has decoded, verified and accepted so far. Raises OSError where none answers."""

    def end_requests(self, engine: Engine) -> None:
        """Ends requests whose clients are gone. Raises OSError where the engine does not answer."""


KINDS: Mapping[str, EngineKind] = {"vllm": vllm, "sglang": sglang}
