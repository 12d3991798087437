"""That the comparison of answers sees what differs, without an engine."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
from support.vllm_features import LOGPROB_TOLERANCE, different
from support.vllm_requests import NO_ANSWER, Answer, Ask

ASKS = {
    "plain": Ask([5, 6], 3),
    "twice": Ask([5, 6], 3, sampling={"n": 2}),
    "sampled": Ask([5, 6], 3),
    "aborted": Ask([5, 6], 3, abort_at=1),
}


def make_answer(count: int = 1) -> Answer:
    return Answer(
        tokens=[[7, 8, 9] for _ in range(count)],
        text=["h i j" for _ in range(count)],
        finish=["stop" for _ in range(count)],
        stop=[9 for _ in range(count)],
        logprobs=[[{7: -0.5, 3: -1.5}, {8: -0.25, 7: -2.5}, {9: -0.125}] for _ in range(count)],
        prompt_logprobs=[{}, {6: -0.75}],
    )


@pytest.fixture
def reference() -> dict[str, Answer]:
    return {name: make_answer(2 if name == "twice" else 1) for name in ASKS}


@pytest.fixture
def answers(reference: dict[str, Answer]) -> dict[str, Answer]:
    same = deepcopy(reference)
    same["aborted"].tokens = [[7, 8]]
    return same


def test_what_is_the_same_passes(answers: dict[str, Answer], reference: dict[str, Answer]) -> None:
    """Rounding, other tokens where they were left to chance and the rest of what was taken back included."""
    answers["plain"].logprobs[0][0][7] += LOGPROB_TOLERANCE / 2
    answers["plain"].prompt_logprobs[1][6] -= LOGPROB_TOLERANCE / 2
    answers["sampled"].tokens = [[1, 2, 3]]
    assert different(answers, reference, ASKS) == []


def _rename(position: dict[int, float], old: int, new: int) -> None:
    position[new] = position.pop(old)


CHANGES: dict[str, tuple[str, str, Callable[[Answer], object]]] = {
    "a token": ("plain", "other tokens", lambda a: a.tokens[0].__setitem__(1, 4)),
    "a missing token": ("plain", "other tokens", lambda a: a.tokens[0].pop()),
    "a token of the second": ("twice", "other tokens", lambda a: a.tokens[1].__setitem__(2, 4)),
    "a missing sequence": ("twice", "other tokens", lambda a: a.tokens.pop()),
    "the text": ("plain", "other text", lambda a: a.text.__setitem__(0, "h i")),
    "the finish reason": ("plain", "other finish", lambda a: a.finish.__setitem__(0, "length")),
    "the stop reason": ("plain", "other stop", lambda a: a.stop.__setitem__(0, "9")),
    "a logprob": (
        "plain",
        "other logprobs",
        lambda a: a.logprobs[0][1].__setitem__(8, -0.25 - 2 * LOGPROB_TOLERANCE),
    ),
    "whose logprob": ("plain", "other logprobs", lambda a: _rename(a.logprobs[0][0], 3, 4)),
    "a position's logprobs": ("plain", "other logprobs", lambda a: a.logprobs[0].pop()),
    "a logprob of the second": ("twice", "other logprobs", lambda a: a.logprobs[1][2].__setitem__(9, 0.0)),
    "a logprob of the prompt": (
        "plain",
        "other prompt logprobs",
        lambda a: a.prompt_logprobs[1].__setitem__(6, -0.5),
    ),
    "a prompt's logprobs": ("plain", "other prompt logprobs", lambda a: a.prompt_logprobs.clear()),
    "length where tokens are left to chance": ("sampled", "has 2 tokens", lambda a: a.tokens[0].pop()),
    "a beginning": ("aborted", "not a beginning of the answer", lambda a: a.tokens[0].__setitem__(0, 4)),
    "all of what was taken back": ("aborted", "has 3 tokens", lambda a: a.tokens[0].append(9)),
    "nothing of it": ("aborted", "has 0 tokens", lambda a: a.tokens[0].clear()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_difference_is_found(
    answers: dict[str, Answer], reference: dict[str, Answer], change: str
) -> None:
    """One line says in which request, and what."""
    name, found, make = CHANGES[change]
    make(answers[name])
    assert different(answers, reference, ASKS) == [f"{name}: {found}"]


def test_nothing_instead_of_an_answer_does_not_pass(
    answers: dict[str, Answer], reference: dict[str, Answer]
) -> None:
    """As where a request was taken back before it had any token."""
    answers["plain"] = NO_ANSWER
    with pytest.raises(ValueError, match="zip"):
        different(answers, reference, ASKS)
