"""The lengths that SGLang is told: only built ones, and the operator's own where control says nothing."""

from __future__ import annotations

import logging

import pytest
from turbospec.adapters.sglang.lengths import LengthPolicy, SwitchLines, candidate_lengths


class OwnPolicy:
    """What `--speculative-adaptive` would choose: 3, and 1 after each verification."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def set_cuda_graph_bs(self, _: list[int] | None) -> None: ...

    def get_steps_for_batch(self, batch_size: int) -> int:
        return 3 if batch_size < 8 else 7

    def on_verify_complete(self, num_correct_drafts_per_req: list[int], batch_size: int) -> int | None:
        self.told += num_correct_drafts_per_req
        return 1 if batch_size < 8 else None


def policy(*built: int, own: OwnPolicy | None = None) -> LengthPolicy:
    made = LengthPolicy(built, 3, own)
    made.restrict(built)
    return made


def test_every_length_where_states_are_cheap() -> None:
    """Without captured graphs a state is a few objects: all lengths up to the operator's are there."""
    assert candidate_lengths(6, graphs=False) == [0, 1, 2, 3, 4, 5, 6]
    assert candidate_lengths(3, graphs=False, zero=False) == [1, 2, 3]


def test_fewer_lengths_where_each_has_graphs() -> None:
    """With captured graphs long ones are farther apart; the operator's own is always there."""
    assert candidate_lengths(5, graphs=True) == [0, 1, 2, 3, 4, 5]
    assert candidate_lengths(10, graphs=True) == [0, 1, 2, 3, 4, 6, 8, 10]


def test_a_length_that_was_not_built_is_never_answered() -> None:
    """SGLang would raise for it: the longest shorter one stands in, or the shortest of all."""
    sparse = policy(1, 3, 5)
    for asked, run in {0: 1, 1: 1, 2: 1, 3: 3, 4: 3, 5: 5, 64: 5}.items():
        sparse.length = asked
        assert sparse.get_steps_for_batch(4) == run


def test_without_control_the_operators_length_applies() -> None:
    """No plan: the configured length, whatever the batch."""
    static = policy(0, 1, 2, 3)
    static.length = 1
    assert static.get_steps_for_batch(4) == 1
    static.length = None
    assert static.get_steps_for_batch(4) == 3
    assert static.on_verify_complete([1, 2], 2) is None


def test_without_control_sglangs_own_policy_applies() -> None:
    """--speculative-adaptive is back as soon as there is no plan, and learns nothing under plans."""
    own = OwnPolicy()
    adaptive = policy(1, 3, 5, own=own)
    assert adaptive.get_steps_for_batch(4) == 3
    assert adaptive.get_steps_for_batch(8) == 5, "7 was not built"
    assert adaptive.on_verify_complete([2, 0], 2) == 1
    assert adaptive.on_verify_complete([2, 0], 8) is None
    adaptive.length = 5
    assert adaptive.get_steps_for_batch(4) == 5
    assert adaptive.on_verify_complete([4, 4], 2) is None
    assert own.told == [2, 0, 2, 0]


def test_the_operators_length_must_be_there() -> None:
    """An engine cannot be left to a length that it has not built."""
    with pytest.raises(ValueError, match="length 3 is not among"):
        policy(0, 1, 2)


def test_graphs_are_captured_for_all_batch_sizes() -> None:
    """Any length may be chosen at any load."""
    made = policy(0, 3)
    assert made.cuda_graph_bs_for_step(3) is None
    made.set_cuda_graph_bs([8, 1, 4])
    assert made.cuda_graph_bs_for_step(3) == made.cuda_graph_bs_for_step(0) == [1, 4, 8]


def test_switches_fill_no_log() -> None:
    """SGLang writes a line for each switch. Under a plan that may be every step."""
    made = policy(0, 3)
    lines = SwitchLines(made)

    def kept(message: str) -> bool:
        return lines.filter(logging.LogRecord("sglang", logging.INFO, "", 0, message, None, None))

    assert kept("Switch adaptive runtime state: steps 3 -> 0")
    made.length = 0
    assert not kept("Switch adaptive runtime state: steps 3 -> 0")
    assert kept("anything else")
