"""Proposal lengths through SGLang's own interface: its runtime switches between states built at start.

SGLang asks an `AdaptiveSpecPolicy` for the length of each batch. Ours answers what control set, else what the
operator's configuration says.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

# With captured graphs each length has graphs of its own, which take memory and start-up time: beyond 4 the
# lengths are those that differ by a third or more.
_WITH_GRAPHS = frozenset((0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64))

_SWITCH_LOGGER = "sglang.srt.speculative.eagle_worker_v2"


def candidate_lengths(longest: int, *, graphs: bool, zero: bool = True) -> list[int]:
    """The lengths to build for an engine whose operator configured `longest`, ascending.

    `graphs`: the engine captures graphs. `zero`: it can run without drafts.
    """
    lengths = (n for n in range(longest + 1) if not graphs or n in _WITH_GRAPHS or n == longest)
    return [n for n in lengths if n or zero]


class LengthPolicy:
    """SGLang's `AdaptiveSpecPolicy`. `length` applies from the next batch on; None: the operator's own.

    `own` is the policy of `--speculative-adaptive`, where that is set; then the operator's own length is its,
    else it is `static_length`. Nothing is answered that was not built: SGLang would raise for it.
    """

    def __init__(self, candidates: Collection[int], static_length: int, own: Any = None) -> None:
        self.length: int | None = None
        self.static_length = static_length
        self._candidates = sorted(candidates)
        self._own = own
        self._graph_batches: list[int] | None = None
        # The state that SGLang starts with is there before any is built.
        self.restrict((static_length,))

    def restrict(self, built: Collection[int]) -> None:
        """Only these lengths can be run. Raises ValueError where the operator's is not among them."""
        if self.static_length not in built:
            raise ValueError(f"length {self.static_length} is not among those built, {sorted(built)}")
        self.built = tuple(sorted(built))
        # By length, what is run for it: the longest that is no longer, or where there is none the shortest.
        self._nearest = [
            max((b for b in self.built if b <= n), default=self.built[0]) for n in range(self.built[-1] + 1)
        ]

    def nearest(self, length: int) -> int:
        """What is run where `length` is asked for."""
        return self._nearest[min(length, len(self._nearest) - 1)]

    # What SGLang calls.

    @property
    def candidate_steps(self) -> list[int]:
        return self._candidates

    def set_cuda_graph_bs(self, cuda_graph_bs: list[int] | None) -> None:
        self._graph_batches = sorted(cuda_graph_bs) if cuda_graph_bs else None
        if self._own is not None:
            self._own.set_cuda_graph_bs(cuda_graph_bs)

    def cuda_graph_bs_for_step(self, step: int) -> list[int] | None:  # noqa: ARG002 - any length at any load
        return self._graph_batches

    def get_steps_for_batch(self, batch_size: int) -> int:
        length = self.length
        if length is None:
            length = self.static_length if self._own is None else self._own.get_steps_for_batch(batch_size)
        return self.nearest(length)

    def on_verify_complete(self, num_correct_drafts_per_req: list[int], batch_size: int) -> int | None:
        # What is accepted under plans says nothing of the lengths that it would have chosen.
        if self._own is None or self.length is not None:
            return None
        steps = self._own.on_verify_complete(num_correct_drafts_per_req, batch_size)
        return None if steps is None else self.nearest(steps)


class SwitchLines(logging.Filter):
    """Keeps SGLang's line about each switch out of the log while plans choose: it may be each step."""

    def __init__(self, policy: LengthPolicy) -> None:
        super().__init__()
        self._policy = policy

    def filter(self, record: logging.LogRecord) -> bool:
        return self._policy.length is None or not str(record.msg).startswith("Switch adaptive runtime state")

    def install(self) -> None:
        logging.getLogger(_SWITCH_LOGGER).addFilter(self)
