"""What all tests with a real vLLM share."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.made_parts import make_eagle_head
from support.vllm_setup import make_asks
from support.vllm_worker import Ask, Engine, EngineOptions
from turbospec.engines.models import MadeModels, make_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> MadeModels:
    """A pair that disagrees often, so that drafts of every length are also rejected."""
    return make_models(tmp_path_factory.mktemp("models"), "low", size="tiny")


@pytest.fixture(scope="session")
def eagle_head(models: MadeModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head that knows what the pair's draft model knows."""
    return make_eagle_head(models, tmp_path_factory.mktemp("head") / "eagle")


@pytest.fixture(scope="session")
def asks() -> list[Ask]:
    return make_asks()


@pytest.fixture(scope="session")
def reference(models: MadeModels, asks: list[Ask]) -> list[list[int]]:
    """What an engine without speculation answers. With nothing to control, vLLM's own scheduler runs."""
    engine = Engine(EngineOptions(model=str(models.target)))
    outputs, evidence = engine.generate(asks)
    engine.stop()
    assert evidence.scheduler_class == "Scheduler"
    assert evidence.accepted == evidence.rejected == 0
    return outputs
