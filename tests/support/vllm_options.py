"""How tests start a vLLM engine of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class EngineOptions:
    """How to start the engine. `asynchronous`: with a step in flight, which vLLM turns off on CPUs.

    `before`: a module's function to run in the engine's process before the engine is made.
    """

    model: str
    speculative: dict[str, Any] | None = None
    asynchronous: bool = False
    environ: dict[str, str] = field(default_factory=dict)
    engine_args: dict[str, Any] = field(default_factory=dict)
    before: Callable[[], None] | None = None
