"""Who may speculate after the drafter was skipped, with vLLM's own KV cache manager and without an engine."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from support.vllm_cache import BLOCK, make_cache
from turbospec.adapters.vllm.readiness import Readiness
from vllm import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher
from vllm.v1.core.sched.output import CachedRequestData, SchedulerOutput
from vllm.v1.request import Request


class Steps:
    """A scheduler's part in steps, as far as readiness sees it: block allocation and its messages."""

    def __init__(self, *, caching: bool, blocks: int = 64) -> None:
        self.manager = make_cache(blocks=blocks, caching=caching)
        self.readiness = Readiness(self.manager)
        self.requests: dict[str, Request] = {}
        self._numbers = itertools.count()
        # Whether nobody was ready in the newest step.
        self.nobody_ready = False

    def admit(self, prompt: list[int], *, skipped: bool) -> Request:
        """A step that computes a new request's prompt, as far as it is not cached."""
        request_id = f"r{next(self._numbers)}"
        request = Request(
            request_id,
            prompt,
            SamplingParams(max_tokens=100),
            None,
            block_hasher=get_request_block_hasher(BLOCK, sha256),
        )
        self.requests[request_id] = request
        self._compute_prompt(request, skipped=skipped, resumed=False)
        return request

    def resume(self, request: Request, *, skipped: bool) -> None:
        """A step that computes a preempted request again."""
        self._compute_prompt(request, skipped=skipped, resumed=True)

    def decode(self, request: Request, *, skipped: bool) -> None:
        """A step in which it receives one token."""
        request.append_output_token_ids([7])
        new = self.manager.allocate_slots(request, 1)
        assert new is not None
        output = self._output(request, 1)
        output.scheduled_cached_reqs = self._cached(request, new.get_block_ids(allow_none=True))
        self._finish(output, request, 1, skipped=skipped)

    def preempt(self, request: Request) -> None:
        self.manager.free(request)
        request.num_computed_tokens = 0

    def leave(self, request: Request) -> None:
        self.manager.free(request)
        self.readiness.forget(request.request_id)
        del self.requests[request.request_id]

    def _compute_prompt(self, request: Request, *, skipped: bool, resumed: bool) -> None:
        hit, cached, _ = self.manager.get_computed_blocks(request)
        tokens = request.num_tokens - cached
        assert self.manager.allocate_slots(request, tokens, cached, hit) is not None
        request.num_computed_tokens = cached
        output = self._output(request, tokens)
        block_ids = self.manager.get_block_ids(request.request_id)
        if resumed:
            output.scheduled_cached_reqs = self._cached(request, block_ids, resumed=True)
        else:
            output.scheduled_new_reqs = [
                SimpleNamespace(req_id=request.request_id, block_ids=block_ids, num_computed_tokens=cached)
            ]
        self._finish(output, request, tokens, skipped=skipped)

    def _output(self, request: Request, tokens: int) -> SchedulerOutput:
        output = SchedulerOutput.make_empty()
        output.num_scheduled_tokens = {request.request_id: tokens}
        return output

    def _cached(self, request: Request, block_ids: Any, *, resumed: bool = False) -> CachedRequestData:
        return CachedRequestData(
            req_ids=[request.request_id],
            resumed_req_ids={request.request_id} if resumed else set(),
            new_token_ids=[],
            all_token_ids={},
            new_block_ids=[block_ids],
            num_computed_tokens=[request.num_computed_tokens],
            num_output_tokens=[0],
        )

    def _finish(self, output: SchedulerOutput, request: Request, tokens: int, *, skipped: bool) -> None:
        self.nobody_ready = self.readiness.nobody_ready(output)
        if skipped or self.readiness.active:
            self.readiness.scheduled(output, self.requests, skipped=skipped)
        request.num_computed_tokens += tokens

    def ready(self, request: Request) -> bool:
        return request.request_id not in self.readiness.unready


PROMPT = list(range(10, 10 + 3 * BLOCK + 1))


@pytest.fixture(params=[False, True], ids=["uncached", "cached"])
def steps(request: pytest.FixtureRequest) -> Steps:
    return Steps(caching=request.param)


@pytest.fixture
def cached() -> Steps:
    return Steps(caching=True)


def test_who_ran_without_the_drafter_stays_unready(steps: Steps) -> None:
    """Until it leaves; who enters with the drafter on is ready."""
    old = steps.admit(PROMPT, skipped=False)
    assert steps.ready(old)
    steps.decode(old, skipped=True)
    assert not steps.ready(old)
    new = steps.admit([*PROMPT[:2], 99], skipped=False)
    for _ in range(2 * BLOCK):
        steps.decode(old, skipped=False)
        steps.decode(new, skipped=False)
    assert not steps.ready(old)
    assert steps.ready(new)
    steps.leave(old)
    assert steps.readiness.unready == frozenset()


def test_the_drafter_is_of_use_to_who_is_ready_or_starts(steps: Steps) -> None:
    """In a step with nobody else it is not."""
    old = steps.admit(PROMPT, skipped=True)
    steps.decode(old, skipped=False)
    assert steps.nobody_ready
    new = steps.admit([*PROMPT[:2], 99], skipped=False)
    assert not steps.nobody_ready
    steps.decode(new, skipped=False)
    assert not steps.nobody_ready
    together = SchedulerOutput.make_empty()
    together.num_scheduled_tokens = {old.request_id: 1, new.request_id: 1}
    assert not steps.readiness.nobody_ready(together)
    assert not steps.readiness.nobody_ready(SchedulerOutput.make_empty())
    steps.decode(old, skipped=False)
    assert steps.nobody_ready
    steps.preempt(old)
    steps.resume(old, skipped=False)
    assert not steps.nobody_ready


def test_without_a_cache_nothing_is_remembered() -> None:
    """When the last unready request has left, steps cost what they cost before."""
    steps = Steps(caching=False)
    request = steps.admit(PROMPT, skipped=True)
    assert steps.readiness.active
    steps.leave(request)
    assert not steps.readiness.active


def test_a_preempted_request_is_ready_when_all_is_computed_again() -> None:
    """Without a cache it starts from nothing, and the drafter with it."""
    steps = Steps(caching=False)
    request = steps.admit(PROMPT, skipped=True)
    steps.preempt(request)
    steps.resume(request, skipped=False)
    assert steps.ready(request)


def test_a_preempted_request_that_finds_its_own_blocks_is_not(cached: Steps) -> None:
    """What the prefix cache gives back still has the gap."""
    request = cached.admit(PROMPT, skipped=True)
    cached.preempt(request)
    cached.resume(request, skipped=False)
    assert not cached.ready(request)


def test_cached_blocks_with_a_gap_make_unready_and_heal(cached: Steps) -> None:
    """The first request that starts from them is unready; the next computes them anew and is ready."""
    cached.leave(cached.admit(PROMPT, skipped=True))
    first = cached.admit(PROMPT, skipped=False)
    assert not cached.ready(first)
    second, third = cached.admit(PROMPT, skipped=False), cached.admit(PROMPT, skipped=False)
    assert cached.ready(second)
    assert cached.ready(third)


def test_the_cache_is_left_alone_while_the_drafter_is_skipped(cached: Steps) -> None:
    """Computing a prefix again would then help nobody."""
    cached.leave(cached.admit(PROMPT, skipped=True))
    hits = cached.manager.get_computed_blocks(cached.admit(PROMPT, skipped=True))[1]
    assert hits == 3 * BLOCK


def test_only_what_was_written_without_the_drafter_has_a_gap(cached: Steps) -> None:
    """A prefix from before stays good for everybody, whoever went on from it meanwhile."""
    first = cached.admit(PROMPT, skipped=False)
    cached.decode(first, skipped=True)
    second = cached.admit(PROMPT, skipped=True)
    assert not cached.ready(second)
    assert cached.ready(cached.admit(PROMPT, skipped=False))


def test_what_follows_a_gap_has_one_too(cached: Steps) -> None:
    """Draft KV that was computed over a gap, with the drafter on again, is no better."""
    first = cached.admit(PROMPT[: BLOCK + 1], skipped=True)
    for _ in range(2 * BLOCK):
        cached.decode(first, skipped=False)
    tokens = list(first.all_token_ids)
    cached.leave(first)
    assert not cached.ready(cached.admit(tokens, skipped=False))


def test_what_follows_a_gap_keeps_it_when_the_gap_is_healed(cached: Steps) -> None:
    """A shorter prompt made its first blocks anew; those after them are still the old ones."""
    first = cached.admit(PROMPT[: BLOCK + 1], skipped=True)
    for _ in range(2 * BLOCK):
        cached.decode(first, skipped=False)
    tokens = list(first.all_token_ids)
    cached.leave(first)
    shorter = tokens[: 2 * BLOCK + 1]
    assert not cached.ready(cached.admit(shorter, skipped=False))
    assert cached.ready(cached.admit(shorter, skipped=False))
    assert not cached.ready(cached.admit(tokens, skipped=False))


def test_a_gap_begins_where_steps_in_flight_do(cached: Steps) -> None:
    """Their drafts may be rejected; what is written then, without the drafter, may be in a block before."""
    first = cached.admit(PROMPT[: BLOCK - 1], skipped=False)
    first.num_computed_tokens += BLOCK
    first.num_output_placeholders = BLOCK
    cached.decode(first, skipped=True)
    tokens = list(first.all_token_ids)
    assert len(tokens) == BLOCK
    assert not cached.ready(cached.admit([*tokens, 99], skipped=False))


def test_blocks_that_are_given_out_again_are_good_again() -> None:
    """In a small cache all blocks come round; in the end nothing is remembered."""
    steps = Steps(caching=True, blocks=9)
    steps.leave(steps.admit(PROMPT, skipped=True))
    assert steps.readiness.active
    for start in range(100, 900, 100):
        request = steps.admit([*range(start, start + 7 * BLOCK)], skipped=False)
        assert steps.ready(request)
        steps.leave(request)
    assert not steps.readiness.active
