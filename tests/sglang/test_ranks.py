"""Ranks that compute a batch together run the same length, and only the first one chooses it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from support import sglang_adapter
from support.controller import wandering_length
from support.controllers import ControllerProcess
from support.sglang_changed import VARIABLE
from support.sglang_reported import reported
from support.sglang_setup import STEPS, Ask, EngineOptions
from support.sglang_worker import Engine
from turbospec.adapters.sglang.lengths import LengthPolicy
from turbospec.adapters.sglang.ranks import LengthChannel
from turbospec.engines.models import MadeModels


class Rank:
    """One rank's receiver of requests; `wants` is what the first rank would have."""

    def __init__(self, *, first: bool) -> None:
        self.policy = LengthPolicy(range(6), 3)
        self.policy.restrict(range(6))
        self.wants: int | None = None
        self.channel = LengthChannel(self.policy, (lambda: self.wants) if first else None)


def turn(ranks: list[Rank], requests: list[Any]) -> list[list[Any]]:
    """One turn of all loops: what each rank's scheduler receives. SGLang broadcasts the first one's."""
    sent = [rank.channel.before_broadcast(requests if rank is ranks[0] else None) for rank in ranks]
    assert sent[1:] == [None] * (len(ranks) - 1)
    return [
        rank.channel.after_broadcast(sent[0] if rank is ranks[0] else pickle.loads(pickle.dumps(sent[0])))
        for rank in ranks
    ]


def test_all_ranks_take_a_length_in_the_same_turn() -> None:
    """With requests or without, and back to the operator's own; the scheduler sees only its requests."""
    ranks = [Rank(first=True), Rank(first=False), Rank(first=False)]
    for wanted, requests in [(None, []), (2, ["a"]), (2, []), (0, []), (None, ["b", "c"]), (5, [])]:
        ranks[0].wants = wanted
        assert turn(ranks, requests) == [requests] * 3
        assert [rank.policy.length for rank in ranks] == [wanted] * 3


def test_what_another_rank_wants_counts_for_nothing() -> None:
    """It has no say, whatever it would do by itself."""
    ranks = [Rank(first=True), Rank(first=False)]
    ranks[0].wants, ranks[1].wants = 2, 5
    turn(ranks, [])
    assert [rank.policy.get_steps_for_batch(1) for rank in ranks] == [2, 2]


def test_nothing_is_sent_while_nothing_changes() -> None:
    """An empty list is a broadcast of eight bytes, and stays one."""
    first = Rank(first=True)
    first.wants = 4
    turn([first], [])
    idle: list[Any] = []
    assert first.channel.before_broadcast(idle) is idle


@pytest.mark.sglang
@pytest.mark.parametrize(
    ("overlap", "change", "everywhere"),
    [
        pytest.param(False, {}, [0, 1, 2, 3, 4], id="synchronous"),
        pytest.param(True, {VARIABLE: "no-state-for-2-but-in-first"}, [0, 1, 3, 4], id="overlap"),
    ],
)
def test_two_real_ranks_run_the_same_lengths(
    models: MadeModels,
    drafts: dict[str, str | None],
    asks: list[Ask],
    reference: list[list[int]],
    tmp_path: Path,
    overlap: bool,
    change: dict[str, str],
    everywhere: list[int],
) -> None:
    """Each computes half of the model. The second one always wants another length; nobody hears of it.

    What the second one could not build is not declared, although the first one has it.
    Ranks that ran different lengths would wait for each other for ever.
    """
    controller = ControllerProcess(f"unix:{tmp_path / 'c.sock'}", "wanders", tmp_path / "journal")
    engine = Engine(
        EngineOptions(
            model=str(models.target),
            method="STANDALONE",
            draft=drafts["STANDALONE"],
            overlap=overlap,
            ranks=2,
            environ={"TURBOSPEC_CONTROL_ADDRESS": f"unix:{tmp_path / 'c.sock'}", **change},
        )
    )
    try:
        assert engine.call(sglang_adapter.built_lengths) == [0, 1, 2, 3, 4]
        assert engine.call(sglang_adapter.declared_lengths) == everywhere
        engine.call(sglang_adapter.insist, 1, rank=1)
        (first, second), reports = reported(engine, controller, lambda: engine.answer_on_each(asks[:12]))
        assert engine.call(sglang_adapter.controlled)
        assert not engine.call(sglang_adapter.controlled, rank=1)
        assert "turbospec-control" in engine.call(sglang_adapter.client_threads)
        assert engine.call(sglang_adapter.client_threads, rank=1) == [], "it talks to nobody"
        engine.call(sglang_adapter.break_controller, "submit")
        broken = engine.answer_on_each(asks[:8])
        assert not engine.call(sglang_adapter.controlled)
    finally:
        engine.stop()
        controller.kill()
    for answers, evidence in (first, second):
        assert [answer.tokens for answer in answers] == reference[:12]
        assert len(set(evidence.lengths)) >= 4
        assert set(evidence.lengths) <= set(everywhere)
    assert first[1].lengths == second[1].lengths
    # A fault of the adapter, which only the first rank has, takes all of them back to the operator's length.
    for answers, evidence in broken:
        assert [answer.tokens for answer in answers] == reference[:8]
        assert set(evidence.lengths[3:]) == {STEPS}
    assert broken[0][1].lengths == broken[1][1].lengths
    planned = [r for r in reports if r.get("slots") and int(r.get("plan_version", 0))]
    assert len(planned) >= 50
    for report in planned:
        wanted = wandering_length(int(report["plan_version"]), STEPS)
        assert int(report.get("proposal_length", 0)) == wanted
