"""The adapter in a real SGLang, with overlap scheduling as on GPUs, as a subject.

The engine takes itself for a version that the tests never saw: it is controlled all the same, with a warning.
"""

from __future__ import annotations

from collections.abc import Sequence

from support import sglang_changed
from support.conformance import subject
from support.conformance.subject import ENGINE_ID, LENGTH, MOST_REQUESTS, Done, Run
from support.sglang_setup import Ask, EngineOptions
from support.sglang_worker import Engine
from turbospec.engines.models import MadeModels


class SglangSubject:
    """Drafts come from the pair's draft model."""

    def __init__(self, models: MadeModels) -> None:
        self._models = models
        self.said: list[str] = []

    def start(self, address: str) -> None:
        self._engine = Engine(
            EngineOptions(
                model=str(self._models.target),
                method="STANDALONE",
                draft=str(self._models.draft),
                steps=LENGTH,
                overlap=True,
                environ={
                    "TURBOSPEC_CONTROL_ADDRESS": address,
                    "TURBOSPEC_ENGINE_ID": ENGINE_ID,
                    sglang_changed.VARIABLE: "untested-version",
                },
                arguments={"max_running_requests": MOST_REQUESTS},
            )
        )
        self.said = self._engine.call(sglang_changed.said)

    def serve(self, asks: Sequence[subject.Ask]) -> Run:
        answers, evidence = self._engine.answer([_ask(ask) for ask in asks])
        done = [
            Done(evidence.ids[i], len(ask.prompt), len(answer.tokens))
            for i, (ask, answer) in enumerate(zip(asks, answers, strict=True))
        ]
        return Run(done, evidence.steps)

    def close(self) -> None:
        self._engine.stop()


def _ask(ask: subject.Ask) -> Ask:
    return Ask(list(ask.prompt), ask.max_tokens, abort_after=ask.abort_after, custom_params=ask.said)
