"""One length for all ranks that compute a batch together (tensor parallelism).

The first rank alone talks to the controller. When its length changes, the change travels with the requests
that SGLang broadcasts in each turn of its loop anyway, so that every rank takes it before the same batch. The
other ranks decide nothing, and nothing that fails in one of them could make it differ.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from turbospec.adapters.sglang.lengths import LengthPolicy


class LengthChange:
    """Travels among the requests. `length` None: the operator's own."""

    __slots__ = ("length",)

    def __init__(self, length: int | None) -> None:
        self.length = length


class LengthChannel:
    """One rank's end. `leader`: what the first rank wants to apply, None in the others."""

    def __init__(self, policy: LengthPolicy, leader: Callable[[], int | None] | None) -> None:
        self._policy = policy
        self._leader = leader
        self._announced: int | None = None

    def before_broadcast(self, requests: list[Any] | None) -> list[Any] | None:
        """The requests to broadcast, with the change of length if there is one."""
        if self._leader is None or requests is None:
            return requests
        length = self._leader()
        if length == self._announced:
            return requests
        self._announced = length
        return [*requests, LengthChange(length)]

    def after_broadcast(self, requests: list[Any]) -> list[Any]:
        """Takes the change out of what was broadcast and applies it."""
        for request in requests:
            if type(request) is LengthChange:
                self._policy.length = request.length
                return [other for other in requests if other is not request]
        return requests


def lengths_of_all(built: Collection[int], longest: int, group: Any) -> set[int]:
    """Those of the lengths 0 to `longest` that every rank of SGLang's GroupCoordinator `group` has built.

    A collective call: every rank must make it, one that is not controlled with nothing.
    """
    import torch

    has = torch.tensor([int(length in built) for length in range(longest + 1)], dtype=torch.int32)
    torch.distributed.all_reduce(has, op=torch.distributed.ReduceOp.MIN, group=group.cpu_group)
    return {length for length, everywhere in enumerate(has.tolist()) if everywhere}
