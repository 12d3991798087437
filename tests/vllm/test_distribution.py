"""Sampled answers have the model's distribution, whatever lengths are chosen.

Chi-square tests of the first three tokens' joint distribution against exact probabilities. An honest engine
fails one such test in a million.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.distribution import ExactDistribution
from support.sidecar import Sidecar
from support.vllm_evidence import Evidence
from support.vllm_setup import LENGTH, speculative_config
from support.vllm_worker import Ask, Engine, EngineOptions
from turbospec.engines.models import MadeModels

pytestmark = pytest.mark.vllm

FALSE_ALARM = 1e-6
SAMPLES = 2500
SEEDS = range(5)
PROMPT = list(range(20, 36))
# Few tokens have most of the probability, and target and draft differ in a fifth of it.
TEMPERATURE = 0.05


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    sidecar = Sidecar(tmp_path_factory.mktemp("sidecar"), "random:11")
    yield sidecar
    sidecar.stop()


@pytest.fixture(scope="module")
def exact(models: MadeModels) -> ExactDistribution:
    return ExactDistribution(models.target, PROMPT, TEMPERATURE)


def start(models: MadeModels, controller: Sidecar, *, drafts: str, asynchronous: bool) -> Engine:
    """`drafts`: how the draft model's tokens are chosen, vLLM's `draft_sample_method`."""
    return Engine(
        EngineOptions(
            model=str(models.target),
            speculative=speculative_config("draft_model", models) | {"draft_sample_method": drafts},
            asynchronous=asynchronous,
            environ={"TURBOSPEC_CONTROL_ADDRESS": controller.control_address},
            engine_args={"max_num_seqs": 64, "max_model_len": 64},
        )
    )


def make_ask(seed: int | None, *, tokens: int = 6) -> Ask:
    """Of the six tokens the last three are there so that drafts of several lengths are."""
    return Ask(PROMPT, tokens, sampling={"temperature": TEMPERATURE, "detokenize": False, "seed": seed})


def sample(engine: Engine, seed: int) -> tuple[list[list[int]], Evidence]:
    """Answers; every second request has a seed of its own, the others draw from the engine's."""
    engine.seed(seed)
    return engine.generate(make_ask(seed * SAMPLES + i if i % 2 else None) for i in range(SAMPLES))


def check_random_lengths_keep_the_distribution(
    engine: Engine, controller: Sidecar, exact: ExactDistribution
) -> None:
    controller.set_policy("random:11")
    engine.wait_controlled()
    answers, evidence = sample(engine, 0)
    assert evidence.enabled
    assert evidence.decode_steps >= 100
    assert evidence.controlled_steps >= 100
    assert evidence.rejected >= 500
    assert len({length for lengths in evidence.verified.values() for length in lengths}) >= 4
    assert exact.p_value(answers) > FALSE_ALARM
    assert exact.p_value(answers[1::2]) > FALSE_ALARM, "with seeds"


def check_seeds_repeat(engine: Engine, controller: Sidecar) -> None:
    """The same seed gives the same answer where lengths are the same; drafts use up random numbers too."""
    controller.set_policy(f"static:{LENGTH}")
    engine.wait_controlled()
    asks = [make_ask(seed, tokens=24) for seed in range(16)]
    while set(engine.generate(asks)[1].proposals) != {LENGTH}:
        pass  # the plan of the moment is still that of the policy before
    (once, evidence), (again, _) = engine.generate(asks), engine.generate(asks)
    assert once == again
    assert evidence.rejected >= 10
    assert len({tuple(answer) for answer in once}) >= 8


def test_drafts_that_are_the_likeliest_tokens(
    models: MadeModels, controller: Sidecar, exact: ExactDistribution
) -> None:
    """With greedy drafts, vLLM's default, lengths that change at random leave the distribution as it is.

    And seeds repeat.
    """
    engine = start(models, controller, drafts="greedy", asynchronous=True)
    try:
        check_random_lengths_keep_the_distribution(engine, controller, exact)
        check_seeds_repeat(engine, controller)
    finally:
        engine.stop()


def test_drafts_that_are_sampled(models: MadeModels, controller: Sidecar, exact: ExactDistribution) -> None:
    """With sampled drafts as well; and a rule that looks at the sampled tokens is found out, every time."""
    engine = start(models, controller, drafts="probabilistic", asynchronous=False)
    try:
        check_random_lengths_keep_the_distribution(engine, controller, exact)
        engine.trim_by_sampled_token(0.2)
        found = [exact.p_value(sample(engine, seed)[0]) for seed in SEEDS]
    finally:
        engine.stop()
    assert max(found) <= FALSE_ALARM, "the negative control"
