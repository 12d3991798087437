"""Requests that use what vLLM offers beside plain greedy decoding, and how their answers are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from support.vllm_evidence import Evidence
from support.vllm_requests import Answer, Ask
from support.vllm_worker import Engine

# Rounding in float32 depends on the batch's shape.
LOGPROB_TOLERANCE = 1e-4
JSON_SCHEMA = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "kind": {"enum": ["ba", "zu"]}, "n": {"enum": [1, 22, 333]}},
    "required": ["on", "kind", "n"],
    "additionalProperties": False,
}
CHOICES = ["yes indeed", "not at all"]
REGEX = "[a-c]{5,9} (ba|de){2,4}!"


@dataclass(frozen=True)
class Plain:
    """A plain request's ask and the tokens that an engine without speculation answers."""

    ask: Ask
    tokens: list[int]


def make_feature_asks(plain: list[Plain], text_of: Sequence[str], adapters: list[str]) -> dict[str, Ask]:
    """One request for each use of a feature, by name.

    They repeat plain requests, so that it is known what the answer would be without the feature. `text_of`:
    the text of each token id.
    """
    free = iter(plain)

    def like(**sampling: object) -> Ask:
        return replace(next(free).ask, sampling=sampling, max_tokens=48)

    def structured(**what: object) -> Ask:
        return like(structured_outputs=what, ignore_eos=False)

    asks = {
        "choice": structured(choice=CHOICES),
        "regex": structured(regex=REGEX),
        "json": structured(json=JSON_SCHEMA),
        "logprobs": like(logprobs=3),
        "prompt logprobs": like(logprobs=0, prompt_logprobs=2),
        "repetition penalty": like(repetition_penalty=1.3),
        "presence penalty": like(presence_penalty=1.0),
        "frequency penalty": like(frequency_penalty=1.0),
        # So small a nucleus holds one token. (top_k would do as well, but fails in vLLM's CPU build.)
        "n": like(n=3, temperature=1.0, top_p=1e-6),
        "allowed tokens": like(allowed_token_ids=list(range(3, 200))),
        # A sampled neighbour makes vLLM treat the batch as a mixed one. Its own tokens are left to chance.
        "sampled": like(temperature=1.0),
    }
    stopped = next(free)
    asks["stop string"] = replace(
        stopped.ask, sampling={"stop": ["".join(text_of[token] for token in _new_pair(stopped.tokens))]}
    )
    stopped = next(free)
    asks["stop token"] = replace(stopped.ask, sampling={"stop_token_ids": [_new_pair(stopped.tokens)[0]]})
    stopped = next(free)
    early = {"stop_token_ids": stopped.tokens[:8], "min_tokens": 24}
    asks["min tokens"] = replace(stopped.ask, sampling=early)
    avoided = next(free)
    words = [text_of[token].strip() for token in avoided.tokens if text_of[token].strip().isalpha()]
    asks["bad words"] = replace(avoided.ask, sampling={"bad_words": words[4:8]})
    for i, adapter in enumerate([*adapters, adapters[0]]):
        asks[f"adapter {i}"] = replace(next(free).ask, adapter=adapter, max_tokens=48)
    for tokens in (1, 9, 30):
        asks[f"abort at {tokens}"] = replace(next(free).ask, abort_at=tokens)
    for seed in range(3):
        # Short enough that no prompt comes in parts, where vLLM's CPU build fails with a seed.
        short = next(free).ask.prompt[:18]
        asks[f"seed {seed}"] = Ask(short, 48, sampling={"temperature": 1.0, "top_p": 1e-6, "seed": seed})
    shared = [token for each in plain[:3] for token in each.ask.prompt][:96]
    for i in range(4):
        asks[f"shared prefix {i}"] = Ask([*shared, *plain[i].ask.prompt[: 5 * i + 1]], 48)
    return asks


def answer_all(engine: Engine, asks: Mapping[str, Ask]) -> tuple[dict[str, Answer], dict[str, Evidence]]:
    """Answers by name, and what happened meanwhile, for "most", "adapted" and "seeded" requests.

    These come apart because of vLLM's CPU build: it applies an adapter to its neighbours without one too, and
    fails where a request with a seed is computed in parts.
    """

    def kind(ask: Ask) -> str:
        return "adapted" if ask.adapter else "seeded" if "seed" in ask.sampling else "most"

    answers: dict[str, Answer] = {}
    evidence = {}
    for each in ("most", "adapted", "seeded"):
        chosen = {name: ask for name, ask in asks.items() if kind(ask) == each}
        answered, evidence[each] = engine.answer(chosen.values())
        answers |= zip(chosen, answered, strict=True)
    return answers, evidence


def _new_pair(tokens: list[int]) -> tuple[int, int]:
    """Two tokens after one another, both new: the first such pair from the 12th token on."""
    for i, (first, second) in enumerate(pairwise(tokens)):
        if i >= 12 and first not in tokens[:i] and second not in tokens[: i + 1]:
            return first, second
    raise AssertionError("the answer repeats itself")


def different(
    answers: Mapping[str, Answer], reference: Mapping[str, Answer], asks: Mapping[str, Ask]
) -> list[str]:
    """What is not as in the reference, one line each; an aborted answer must be a beginning of it."""
    lines = []
    for name, ask in asks.items():
        answer, expected = answers[name], reference[name]
        if ask.abort_at is not None:
            tokens = answer.tokens[0]
            if not ask.abort_at <= len(tokens) < len(expected.tokens[0]):
                lines.append(f"{name}: has {len(tokens)} tokens")
            if tokens != expected.tokens[0][: len(tokens)]:
                lines.append(f"{name}: not a beginning of the answer")
            continue
        if name == "sampled":
            if len(answer.tokens[0]) != ask.max_tokens:
                lines.append(f"{name}: has {len(answer.tokens[0])} tokens")
            continue
        for what in ("tokens", "text", "finish", "stop"):
            if getattr(answer, what) != getattr(expected, what):
                lines.append(f"{name}: other {what}")
        for what, got, wanted in (
            ("logprobs", answer.logprobs, expected.logprobs),
            ("prompt logprobs", [answer.prompt_logprobs], [expected.prompt_logprobs]),
        ):
            if not all(_close(a, b) for a, b in zip(got, wanted, strict=True)):
                lines.append(f"{name}: other {what}")
    return lines


def _close(got: list[dict[int, float]], wanted: list[dict[int, float]]) -> bool:
    """The same tokens at every position, with the same values."""
    return len(got) == len(wanted) and all(
        a.keys() == b.keys() and all(abs(a[token] - b[token]) <= LOGPROB_TOLERANCE for token in a)
        for a, b in zip(got, wanted, strict=True)
    )
