"""Requests to a real vLLM engine: what is asked, what is answered, and the loop that drives the engine."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Ask:
    """One request; greedy, and to its last token, unless `sampling` (vLLM's SamplingParams) says otherwise.

    `abort_after`: take it back after so many of the engine's steps; `abort_at`: once it has so many tokens.
    `adapter`: a LoRA adapter's directory.
    """

    prompt: list[int]
    max_tokens: int
    extra_args: dict[str, Any] | None = None
    abort_after: int | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    abort_at: int | None = None
    adapter: str | None = None


@dataclass
class Answer:
    """What a caller got, one entry for each of its `n` sequences; an aborted request's is what came so far.

    `logprobs`, `prompt_logprobs`: by position, of token ids. `cached`: prompt tokens from the prefix cache.
    """

    tokens: list[list[int]]
    text: list[str]
    finish: list[str | None]
    stop: list[int | str | None]
    logprobs: list[list[dict[int, float]]]
    prompt_logprobs: list[dict[int, float]]
    cached: int = 0

    @property
    def aborted(self) -> bool:
        return None in self.finish or "abort" in self.finish


# Taken back before it had any token.
NO_ANSWER = Answer([], [], ["abort"], [], [], [])


def _sampling_params(ask: Ask) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    sampling = dict(ask.sampling)
    structured = sampling.pop("structured_outputs", None)
    if structured is not None:
        sampling["structured_outputs"] = StructuredOutputsParams(**structured)
    defaults = {"temperature": 0.0, "ignore_eos": True}
    return SamplingParams(
        max_tokens=ask.max_tokens,
        extra_args=ask.extra_args,
        # All sequences of a request in one answer, which vLLM gives at the end only.
        output_kind=RequestOutputKind.FINAL_ONLY if ask.abort_at is None else RequestOutputKind.CUMULATIVE,
        **defaults | sampling,
    )


def add(engine: Any, request_id: str, ask: Ask) -> None:
    """Adds a request to vLLM's LLMEngine."""
    adapter = None
    if ask.adapter is not None:
        from vllm.lora.request import LoRARequest

        adapter = LoRARequest(ask.adapter, 1 + zlib.crc32(ask.adapter.encode()), ask.adapter)
    engine.add_request(
        request_id, {"prompt_token_ids": ask.prompt}, _sampling_params(ask), lora_request=adapter
    )


def read(result: Any) -> Answer:
    """The Answer in one of vLLM's RequestOutputs."""
    sequences = sorted(result.outputs, key=lambda output: output.index)
    return Answer(
        tokens=[list(output.token_ids) for output in sequences],
        text=[output.text for output in sequences],
        finish=[output.finish_reason for output in sequences],
        stop=[output.stop_reason for output in sequences],
        logprobs=[_plain(output.logprobs) for output in sequences],
        prompt_logprobs=_plain(result.prompt_logprobs),
        cached=result.num_cached_tokens or 0,
    )


def _plain(positions: Any) -> list[dict[int, float]]:
    return [_values(position) for position in positions or ()]


def _values(position: Mapping[int, Any] | None) -> dict[int, float]:
    return {token: entry.logprob for token, entry in (position or {}).items()}


def drive(engine: Any, asks: Mapping[str, Ask]) -> dict[str, Answer]:
    """Steps LLMEngine until it has nothing to do, taking back what is to be taken back."""
    answers: dict[str, Answer] = {}
    steps = 0
    while engine.has_unfinished_requests():
        aborts = []
        for result in engine.step():
            answer = answers[result.request_id] = read(result)
            abort_at = asks[result.request_id].abort_at
            if abort_at is not None and not result.finished and len(answer.tokens[0]) >= abort_at:
                aborts.append(result.request_id)
        steps += 1
        aborts += [request_id for request_id, ask in asks.items() if ask.abort_after == steps]
        if aborts:
            engine.abort_request(aborts)
    return answers
