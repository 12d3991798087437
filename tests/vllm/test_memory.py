"""Drafts and memory: with vLLM's own KV cache manager, and with the real engine and too little of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sidecar import Sidecar
from support.vllm_cache import BLOCK, make_cache, make_scheduler
from support.vllm_evidence import Evidence
from support.vllm_plans import repeated
from support.vllm_setup import LENGTH, differing, speculative_config
from support.vllm_worker import Ask, Engine, EngineOptions
from turbospec.adapters.vllm.memory import DraftMemory
from turbospec.engines.models import MadeModels
from vllm import SamplingParams
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.request import Request

pytestmark = pytest.mark.vllm

# Six requests at a time need 24 blocks in the end.
CRAMPED = {"max_num_seqs": 6, "max_model_len": 256, "block_size": 32, "num_gpu_blocks_override": 18}


class Crowd:
    """Decoding requests with drafts, in a cache that has few blocks left."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        prompts = [draw.randint(1, 5 * BLOCK) for _ in range(6)]
        held = sum(-(-tokens // BLOCK) for tokens in prompts)
        self.cache: KVCacheManager = make_cache(blocks=1 + held + draw.randint(0, 12))
        self.requests = []
        for number, tokens in enumerate(prompts):
            request = Request(f"r{number}", [1] * tokens, SamplingParams(max_tokens=100), None)
            assert self.cache.allocate_slots(request, tokens) is not None
            request.num_computed_tokens = tokens
            request.append_output_token_ids([7])
            request.spec_token_ids = [7] * draw.randint(0, LENGTH)
            self.requests.append(request)
        self.scheduler = make_scheduler(self.requests, self.cache, LENGTH)

    def fits(self, length: int, lookahead: int) -> bool:
        """Whether a step finds room for all of them: vLLM's own answer, given one after the other."""
        return all(
            self.cache.allocate_slots(
                request, 1 + min(len(request.spec_token_ids), length), num_lookahead_tokens=lookahead
            )
            is not None
            for request in self.requests
        )


@pytest.mark.parametrize("follows", [True, False])
def test_the_longest_length_that_fits(follows: bool) -> None:
    """What is found fits, if anything does; one more would not."""
    found = []
    for seed in range(300):
        crowd = Crowd(seed)
        memory = DraftMemory(crowd.scheduler, follows_length=follows, max_length=LENGTH)
        length = memory.longest(crowd.requests, LENGTH)
        memory.reserve(length)
        lookahead = crowd.scheduler.num_lookahead_tokens
        assert lookahead == (length if follows else LENGTH)
        if length:
            assert crowd.fits(length, lookahead)
        if length < LENGTH:
            assert not Crowd(seed).fits(length + 1, length + 1 if follows else LENGTH)
        found.append(length)
    assert set(found) == {*range(LENGTH + 1)}


def test_shorter_drafts_already_there_count_as_what_they_are() -> None:
    """A request without drafts needs room for one token and what is drafted next, whatever the length."""
    request = Request("r", [1] * BLOCK, SamplingParams(max_tokens=100), None)
    cache = make_cache(blocks=3)
    assert cache.allocate_slots(request, BLOCK) is not None
    request.num_computed_tokens = BLOCK
    request.append_output_token_ids([7])
    memory = DraftMemory(make_scheduler([request], cache, LENGTH), follows_length=True, max_length=LENGTH)
    assert memory.longest([request], LENGTH) == BLOCK - 1


def test_the_engines_own_reserve_comes_back() -> None:
    """Without a plan, and when the adapter is disabled, vLLM reserves what it is configured for."""
    scheduler = make_scheduler([], make_cache(blocks=8), LENGTH)
    memory = DraftMemory(scheduler, follows_length=True, max_length=LENGTH)
    memory.reserve(1)
    assert scheduler.num_lookahead_tokens == 1
    memory.release()
    assert scheduler.num_lookahead_tokens == LENGTH


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    sidecar = Sidecar(tmp_path_factory.mktemp("sidecar"), "idle")
    yield sidecar
    sidecar.stop()


@pytest.fixture(scope="module", params=[False, True], ids=["synchronous", "asynchronous"])
def engine(
    request: pytest.FixtureRequest,
    models: MadeModels,
    eagle_head: Path,
    reference: list[list[int]],  # noqa: ARG001 - made first: one engine at a time
    controller: Sidecar,
) -> Iterator[Engine]:
    running = Engine(
        EngineOptions(
            model=str(models.target),
            speculative=speculative_config("draft_model", models, eagle_head),
            asynchronous=request.param,
            environ={
                "TURBOSPEC_CONTROL_ADDRESS": controller.control_address,
                "TURBOSPEC_ENGINE_ID": f"cramped-{request.param}",
            },
            engine_args=CRAMPED,
        )
    )
    yield running
    running.stop()


def run(
    engine: Engine, controller: Sidecar, policy: str, asks: list[Ask], reference: list[list[int]]
) -> Evidence:
    """One in which every step had a plan."""

    def attempt() -> Evidence:
        engine.wait_controlled()
        outputs, evidence = engine.generate(asks)
        assert differing(outputs, reference) == []
        assert evidence.enabled
        return evidence

    controller.set_policy(policy)
    evidence = repeated(attempt, lambda evidence: all(evidence.planned))
    assert evidence.controlled_steps >= 50
    return evidence


def test_drafts_cost_no_preemption(
    engine: Engine, controller: Sidecar, asks: list[Ask], reference: list[list[int]]
) -> None:
    """In too small a cache, no more requests are preempted with drafts than at length 0.

    The negative control: without the rule, more are.
    """
    without = run(engine, controller, "idle", asks, reference)
    drafting = run(engine, controller, f"static:{LENGTH}", asks, reference)
    assert without.preemptions >= 2
    assert drafting.preemptions <= without.preemptions
    assert drafting.accepted >= 50
    assert len(set(drafting.proposals)) >= 2, "lengths shrink, and are long again"
    engine.ignore_memory()
    ignoring = run(engine, controller, f"static:{LENGTH}", asks, reference)
    assert set(ignoring.proposals) == {LENGTH}
    assert ignoring.preemptions > without.preemptions
