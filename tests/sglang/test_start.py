"""When the adapter is there and when it is not, and what it leaves of an engine that it cannot control."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support import sglang_adapter, sglang_changed
from support.sglang_changed import VARIABLE
from support.sglang_setup import STEPS, Ask, EngineOptions
from support.sglang_worker import Engine
from turbospec.adapters.sglang.compat import HOOKED
from turbospec.engines.models import MadeModels

pytestmark = pytest.mark.sglang

NOBODY = {"TURBOSPEC_CONTROL_ADDRESS": "unix:/nonexistent/control.sock"}


@contextmanager
def started(options: EngineOptions) -> Iterator[Engine]:
    engine = Engine(options)
    try:
        yield engine
    finally:
        engine.stop()


@pytest.fixture
def options(models: MadeModels, drafts: dict[str, str | None]) -> EngineOptions:
    return EngineOptions(model=str(models.target), method="STANDALONE", draft=drafts["STANDALONE"])


@pytest.mark.parametrize("environ", [{}, {**NOBODY, "TURBOSPEC_DISABLE": "1"}], ids=["installed", "disabled"])
def test_merely_installed_it_touches_nothing(options: EngineOptions, environ: dict[str, str]) -> None:
    """Without an address to connect to, or switched off: no hook is in place, no state is built."""
    options.environ = environ
    with started(options) as engine:
        assert engine.call(sglang_adapter.hooked) == []
        assert engine.call(sglang_adapter.built_lengths) == []
        # All would be there, and what is not would be named.
        assert engine.call(sglang_adapter.missing_hooks) == []
        missing, registered = engine.call(sglang_adapter.missing_when_changed)
        assert registered == 0
        assert sorted(missing) == [
            "GenerationBatchResult.num_correct_drafts_per_req_cpu is missing",
            "Scheduler.process_batch_result has no parameter 'result'",
            "Scheduler.send_abort_output is missing",
        ]


def test_without_a_controller_the_operators_length_applies(
    options: EngineOptions, asks: list[Ask], reference: list[list[int]]
) -> None:
    """Hooked and ready, and every step runs what was configured."""
    options.environ = NOBODY
    with started(options) as engine:
        answers, evidence = engine.answer(asks[:8])
        assert engine.call(sglang_adapter.controlled)
        assert engine.call(sglang_adapter.hooked) == sorted(HOOKED)
        assert set(evidence.lengths) == {STEPS}
    assert [answer.tokens for answer in answers] == reference[:8]


def test_a_hook_that_was_not_taken_is_noticed(
    options: EngineOptions, asks: list[Ask], reference: list[list[int]]
) -> None:
    """SGLang itself only logs it. One message says which, and the engine serves as if we were not there."""
    options.environ = {**NOBODY, VARIABLE: "not-taken"}
    with started(options) as engine:
        answers, evidence = engine.answer(asks[:4])
        assert not engine.call(sglang_adapter.controlled)
        assert engine.call(sglang_adapter.built_lengths) == []
        assert set(evidence.lengths) == {STEPS}
        said = engine.call(sglang_changed.said)
    assert [answer.tokens for answer in answers] == reference[:4]
    assert len(said) == 1
    assert "SGLang did not take its hooks on sglang.srt.managers.scheduler.Scheduler.run_batch." in said[0]


def test_a_length_that_cannot_be_built_is_done_without(
    options: EngineOptions, asks: list[Ask], reference: list[list[int]]
) -> None:
    """As where memory for its graphs is short: the others are there, and declared."""
    options.environ = {**NOBODY, VARIABLE: "no-state-for-2"}
    with started(options) as engine:
        assert engine.call(sglang_adapter.built_lengths) == [0, 1, 3, 4]
        assert engine.call(sglang_adapter.declared_lengths) == [0, 1, 3, 4]
        answers, _ = engine.answer(asks[:4])
        said = engine.call(sglang_changed.said)
    assert [answer.tokens for answer in answers] == reference[:4]
    assert "TurboSpec does without length 2, which could not be built." in said
