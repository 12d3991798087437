"""What all tests with a real vLLM share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from support.made_parts import (
    ADAPTED,
    ADAPTER_RANK,
    make_adapter,
    make_text_tokenizer,
    read_tokens,
)
from support.vllm_features import Plain, answer_all, make_feature_asks
from support.vllm_requests import Answer
from support.vllm_setup import make_asks
from support.vllm_worker import Ask, Engine, EngineOptions
from turbospec.engines.eagle_head import make_eagle_head
from turbospec.engines.models import MadeModels, make_models


@dataclass(frozen=True)
class References:
    """`plain`: tokens of plain requests. `features`: the other requests by name, with `answers`."""

    plain: list[list[int]]
    features: dict[str, Ask]
    answers: dict[str, Answer]


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
def feature_args(models: MadeModels, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How an engine is started that is to answer requests of all kinds."""
    return {
        "tokenizer": str(make_text_tokenizer(models, tmp_path_factory.mktemp("tokenizer") / "text")),
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "enable_lora": True,
        "max_loras": 2,
        "max_lora_rank": ADAPTER_RANK,
        # In vLLM's CPU build adapters of the head and logprobs of prompts exclude each other.
        "lora_target_modules": list(ADAPTED),
    }


@pytest.fixture(scope="session")
def references(
    models: MadeModels,
    asks: list[Ask],
    feature_args: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> References:
    """What an engine without speculation answers. With nothing to control, vLLM's own scheduler runs."""
    adapters = [str(make_adapter(models, tmp_path_factory.mktemp("adapter") / "a", seed)) for seed in (1, 2)]
    engine = Engine(EngineOptions(model=str(models.target), engine_args=feature_args))
    outputs, evidence = engine.generate(asks)
    texts = read_tokens(Path(feature_args["tokenizer"]))
    features = make_feature_asks([Plain(*pair) for pair in zip(asks, outputs, strict=True)], texts, adapters)
    whole = {name: replace(ask, abort_at=None) for name, ask in features.items()}
    answers, _ = answer_all(engine, whole)
    engine.stop()
    assert evidence.scheduler_class == "Scheduler"
    assert evidence.accepted == evidence.rejected == 0
    return References(outputs, features, answers)


@pytest.fixture(scope="session")
def reference(references: References) -> list[list[int]]:
    """The tokens of plain requests."""
    return references.plain
