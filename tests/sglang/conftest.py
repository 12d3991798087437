"""What all tests with a real SGLang share."""

from __future__ import annotations

import pytest
from support.sglang_setup import Ask, EngineOptions, make_asks
from support.sglang_worker import Engine
from turbospec.engines.eagle_head import make_sglang_head
from turbospec.engines.models import MadeModels, make_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> MadeModels:
    """A pair that disagrees often, so that drafts of every length are also rejected."""
    return make_models(tmp_path_factory.mktemp("models"), "low", size="tiny")


@pytest.fixture(scope="session")
def drafts(models: MadeModels, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """What each method drafts with."""
    head = make_sglang_head(models, tmp_path_factory.mktemp("head") / "eagle")
    return {"STANDALONE": str(models.draft), "EAGLE": str(head), "NGRAM": None}


@pytest.fixture(scope="session")
def asks() -> list[Ask]:
    return make_asks()


@pytest.fixture(scope="session")
def reference(models: MadeModels, asks: list[Ask]) -> list[list[int]]:
    """The tokens that an engine without speculation answers."""
    engine = Engine(EngineOptions(model=str(models.target)))
    answers, evidence = engine.answer(asks)
    engine.stop()
    assert evidence.total_accepted == evidence.total_rejected == 0
    assert [len(answer.tokens) for answer in answers] == [ask.max_tokens for ask in asks]
    return [answer.tokens for answer in answers]
