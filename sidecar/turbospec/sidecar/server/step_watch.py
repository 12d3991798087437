"""Showing an engine's steps to a reader who may be slow, without the engine's stream ever waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from turbospec.sidecar.core.types import Disturbance, Observation, RequestInfo

STEPS_KEPT = 4096  # ten seconds and more of the fastest engine; about a megabyte


@dataclass(frozen=True, slots=True)
class SeenStep:
    """One report, summed over its requests; the fields are those of the protocol's ReportedStep."""

    sequence: int
    steps: int
    seconds: float | None
    disturbances: frozenset[Disturbance]
    requests: int
    decoding_requests: int
    labelled_requests: int
    context_tokens: int
    target_tokens: int
    verified_tokens: int
    prefill_tokens: int
    proposal_length: int
    ragged: bool
    drafter_skipped: bool
    plan_version: int
    labelled_unready_requests: int


class StepWatch:
    """Steps that wait for one reader. The newest are kept; older ones are counted as lost."""

    def __init__(self, label: str) -> None:
        """Counts requests with this `label` in each step."""
        self._label = label
        self._steps: deque[SeenStep] = deque()
        self._lost = 0
        self._wake = asyncio.Event()

    def offer(self, observation: Observation, requests: Mapping[int, RequestInfo]) -> None:
        """One report. `requests`: those in the engine, by slot, that leave with it included."""
        if len(self._steps) == STEPS_KEPT:
            self._lost += self._steps.popleft().steps
        unready = sum(requests[slot].label == self._label for slot in observation.unready_slots)
        self._steps.append(_seen(observation, _labelled(observation, requests, self._label), unready))
        self._wake.set()

    async def take(self, seconds: float) -> tuple[list[SeenStep], int]:
        """All that wait, and how many were lost before them, once there is one; nothing after `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()
        steps, lost = list(self._steps), self._lost
        self._steps.clear()
        self._lost = 0
        return steps, lost


def _labelled(observation: Observation, requests: Mapping[int, RequestInfo], label: str) -> int:
    """How many of a report's requests surely carry the label.

    It names those that decoded. Of the others (their prompts were computed) it only says how many they are:
    each live request that did not decode may be one of them, and what has another label is taken to be.
    """
    decoding = observation.slots.tolist()
    ours = sum(requests[slot].label == label for slot in decoding)
    others = observation.requests - len(decoding)
    if others <= 0:
        return ours
    waiting = [requests[slot].label == label for slot in requests.keys() - set(decoding)]
    foreign = len(waiting) - sum(waiting)
    return ours + max(min(others, len(waiting)) - foreign, 0)


def _seen(observation: Observation, labelled: int, unready: int) -> SeenStep:
    decoding, verified = int(observation.slots.size), observation.verified
    drafts = int(verified.sum())
    return SeenStep(
        sequence=observation.sequence,
        steps=observation.steps,
        seconds=observation.duration,
        disturbances=observation.disturbances,
        requests=observation.requests,
        decoding_requests=decoding,
        labelled_requests=labelled,
        context_tokens=int(observation.context_tokens.sum()),
        target_tokens=decoding + drafts + observation.prefill_tokens,
        verified_tokens=drafts,
        prefill_tokens=observation.prefill_tokens,
        proposal_length=observation.proposal_length,
        ragged=bool(decoding and verified.min() != verified.max()),
        drafter_skipped=observation.drafter_skipped,
        plan_version=observation.plan_version,
        labelled_unready_requests=unready,
    )
