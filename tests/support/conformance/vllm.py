"""The adapter in a real vLLM, with a step in flight as on GPUs, as a subject.

The engine takes itself for a version that the tests never saw: it is controlled all the same, with a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from support.conformance import subject
from support.conformance.said import SAID
from support.conformance.subject import ENGINE_ID, LENGTH, MOST_REQUESTS, Done, Run
from support.vllm_worker import Ask, Engine, EngineOptions
from turbospec.engines.models import MadeModels


class VllmSubject:
    """Drafts come from the pair's draft model."""

    def __init__(self, models: MadeModels) -> None:
        self._models = models
        self.said: list[str] = []

    def start(self, address: str) -> None:
        self._engine = Engine(
            EngineOptions(
                model=str(self._models.target),
                speculative={
                    "method": "draft_model",
                    "model": str(self._models.draft),
                    "num_speculative_tokens": LENGTH,
                },
                asynchronous=True,
                environ={"TURBOSPEC_CONTROL_ADDRESS": address, "TURBOSPEC_ENGINE_ID": ENGINE_ID},
                engine_args={"max_num_seqs": MOST_REQUESTS},
                before=_move_the_tested_range,
            )
        )
        self.said = self._engine.call(_said)

    def serve(self, asks: Sequence[subject.Ask]) -> Run:
        answers, evidence = self._engine.answer([_ask(ask) for ask in asks])
        done = [
            Done(evidence.ids[i], len(ask.prompt), sum(map(len, answer.tokens)))
            for i, (ask, answer) in enumerate(zip(asks, answers, strict=True))
        ]
        return Run(done, evidence.steps)

    def close(self) -> None:
        self._engine.stop()


def _ask(ask: subject.Ask) -> Ask:
    return Ask(list(ask.prompt), ask.max_tokens, abort_after=ask.abort_after, extra_args=ask.said)


def _move_the_tested_range() -> None:
    """In the engine's process, before anything else."""
    from turbospec.adapters import versions

    versions.VLLM = versions.Tested("vLLM", oldest="0.1.0", newest="0.1.1")
    logging.getLogger("vllm.turbospec").addFilter(SAID)


def _said(_: Any) -> list[str]:
    return SAID.messages
