"""The engines of a comparison, of each kind: under the controller, without speculation, and on their own."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from turbospec.engines.bench.e2e.lineup import FIXED_ENGINE
from turbospec.engines.bench.e2e.schedule import (
    ADAPTIVE,
    GOODPUT,
    LONGEST_LENGTH,
    NONE,
    SGLANG,
    TABLE,
    VLLM,
)
from turbospec.engines.models import MadeModels
from turbospec.engines.processes import Children
from turbospec.engines.stage import engines, sglang, vllm
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.engines import Engine

Entries = Sequence[tuple[int, int, int]]
"""vLLM's table: (first batch size, last, length)."""


@dataclass(frozen=True, slots=True)
class Contenders:
    """Started engines by policy, as a line-up takes them.

    `start_table` starts the one that has to be calibrated first; None where there is none.
    """

    engines: Mapping[str, Engine]
    start_table: Callable[[Entries], Engine] | None = None


def start(engine: str, children: Children, directory: Path, pair: str, controller: Controller) -> Contenders:
    """Makes the pair's models, and starts all that can be started; no engine is waited for."""
    models = engines.provide_models(children, directory, pair)
    return _STARTS[engine](children, models, controller)


def _vllm(children: Children, models: MadeModels, controller: Controller) -> Contenders:
    started = {
        name: vllm.start_controlled(children, name, models, controller, longest=LONGEST_LENGTH)
        for name in (GOODPUT, FIXED_ENGINE)
    }
    started[NONE] = vllm.start_without_speculation(children, NONE, models)

    def start_table(entries: Entries) -> Engine:
        return vllm.start_with_table(children, TABLE, models, entries, longest=LONGEST_LENGTH)

    return Contenders(started, start_table)


def _sglang(children: Children, models: MadeModels, controller: Controller) -> Contenders:
    # Of EAGLE, since SGLang's own adaptation is for that only.
    models = replace(models, draft=_provide_head(children, models))
    started = {
        name: sglang.start_controlled(
            children, name, models, controller, longest=LONGEST_LENGTH, method=sglang.EAGLE
        )
        for name in (GOODPUT, FIXED_ENGINE)
    }
    started[ADAPTIVE] = sglang.start_adaptive(children, ADAPTIVE, models)
    started[NONE] = sglang.start_without_speculation(children, NONE, models)
    return Contenders(started)


def _provide_head(children: Children, models: MadeModels) -> Path:
    """Made anew each time, in seconds, by a process of its own: it imports torch."""
    head = models.draft.with_name(f"head-{models.draft.name}")
    shutil.rmtree(head, ignore_errors=True)
    argv = [sys.executable, "-m", "turbospec.engines.eagle_head"]
    children.start("make-head", [*argv, str(models.target), str(models.draft), str(head)], {}).wait_done()
    return head


_STARTS: Mapping[str, Callable[[Children, MadeModels, Controller], Contenders]] = {
    VLLM: _vllm,
    SGLANG: _sglang,
}
