"""The real SGLang runs on a CPU and speculates without changing an answer. TurboSpec's adapter is not in it.

In float32, greedy: what tests of the adapter are then held against.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sglang_breaking import accept_all_drafts
from support.sglang_evidence import Evidence
from support.sglang_server import Server
from support.sglang_setup import REQUESTS, STEPS, Answer, Ask, EngineOptions, ngram_obstacle
from support.sglang_worker import Engine
from support.vllm_setup import differing
from turbospec.engines.models import MadeModels
from turbospec.engines.processes import free_port

pytestmark = pytest.mark.sglang

RUNS = [(method, overlap) for method in ("STANDALONE", "EAGLE", "NGRAM") for overlap in (False, True)]
NAMES = [f"{method}-{'overlap' if overlap else 'in-turn'}" for method, overlap in RUNS]


@pytest.fixture(scope="module", params=RUNS, ids=NAMES)
def engine(
    request: pytest.FixtureRequest,
    models: MadeModels,
    drafts: dict[str, str | None],
    reference: list[list[int]],  # noqa: ARG001 - made first: one engine at a time
) -> Iterator[Engine]:
    method, overlap = request.param
    if method == "NGRAM" and (obstacle := ngram_obstacle()):
        pytest.skip(obstacle)
    running = Engine(
        EngineOptions(model=str(models.target), method=method, draft=drafts[method], overlap=overlap)
    )
    yield running
    running.stop()


def tokens_of(answers: list[Answer]) -> list[list[int]]:
    return [answer.tokens for answer in answers]


def assert_counts(evidence: Evidence, answers: list[Answer], options: EngineOptions) -> None:
    """That drafts were verified in many steps, accepted and rejected, and that SGLang counts the same."""
    assert evidence.decode_steps >= 100
    assert set(evidence.lengths) == {STEPS}
    assert len(evidence.verified) == REQUESTS
    assert evidence.total_accepted >= 100
    assert evidence.total_rejected >= 100
    assert max(evidence.batch_sizes) >= 4
    assert evidence.steps_in_flight == (2 if options.overlap else 1)
    assert sum(answer.accepted for answer in answers) == evidence.total_accepted
    assert sum(answer.verify_passes for answer in answers) == sum(map(len, evidence.verified.values()))
    # A pass for each draft but the first, which comes of the pass over the tokens accepted before.
    assert set(evidence.draft_passes) == ({0} if options.method == "NGRAM" else {STEPS})


def test_the_comparison_can_fail(reference: list[list[int]]) -> None:
    """Requests have answers of their own: one request's answer is no other's."""
    rotated = reference[1:] + reference[:1]
    assert len(differing(rotated, reference)) == REQUESTS


def test_speculation_changes_no_answer(engine: Engine, asks: list[Ask], reference: list[list[int]]) -> None:
    answers, evidence = engine.answer(asks)
    assert differing(tokens_of(answers), reference) == []
    assert_counts(evidence, answers, engine.options)


def test_taken_back(engine: Engine, asks: list[Ask], reference: list[list[int]]) -> None:
    """A request that is taken back has had the beginning of its answer; the others go on."""
    first = Ask(asks[0].prompt, asks[0].max_tokens, abort_after=5)
    answers, _ = engine.answer([first, *asks[1:4]])
    assert (answers[0].finish or {})["type"] == "abort"
    assert 1 <= len(answers[0].tokens) < len(reference[0])
    assert answers[0].tokens == reference[0][: len(answers[0].tokens)]
    assert tokens_of(answers[1:]) == reference[1:4]


def test_wrong_verification_is_noticed(engine: Engine, asks: list[Ask], reference: list[list[int]]) -> None:
    """Where every draft is taken for accepted, whatever the target says, answers differ."""
    engine.call(accept_all_drafts)
    answers, _ = engine.answer(asks)
    assert len(differing(tokens_of(answers), reference)) >= REQUESTS // 2


def test_two_ranks(
    models: MadeModels, drafts: dict[str, str | None], asks: list[Ask], reference: list[list[int]]
) -> None:
    """Tensor-parallel ranks, a process each, run the same steps and give the same answers."""
    options = EngineOptions(
        model=str(models.target), method="STANDALONE", draft=drafts["STANDALONE"], ranks=2, overlap=True
    )
    engine = Engine(options)
    try:
        (answers, evidence), others = engine.answer_on_each(asks)
    finally:
        engine.stop()
    assert (answers, evidence) == others
    assert differing(tokens_of(answers), reference) == []
    assert_counts(evidence, answers, options)


def test_http_server(models: MadeModels, drafts: dict[str, str | None], tmp_path: Path) -> None:
    """All of SGLang's processes: they find the stand-ins, and the plug-in that leaves overlap on."""
    server = Server(
        EngineOptions(
            model=str(models.target), method="STANDALONE", draft=drafts["STANDALONE"], overlap=True
        ),
        free_port(),
        tmp_path / "server.log",
    )
    try:
        server.wait_until_up()
        assert server.complete([10, 20, 30, 40] * 6, 32, timeout=120, name="first") == 32
    finally:
        server.stop()
    assert "Overlap schedule is not implemented" not in server.log()
