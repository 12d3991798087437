"""What an observation must satisfy before anything learns from it."""

from __future__ import annotations

import math

import numpy as np
from turbospec.sidecar.core.errors import ObservationError
from turbospec.sidecar.core.requests import RequestTable
from turbospec.sidecar.core.types import Capabilities, Observation, RequestInfo

# Slots index arrays, so a wild one would cost memory. An engine's queue is far shorter.
MAX_SLOT = 65_535


def check_request(info: RequestInfo, live: RequestTable) -> None:
    """Raises ObservationError where `info` cannot be opened."""
    if not 0 <= info.slot <= MAX_SLOT:
        raise ObservationError("opened.slot", f"{info.slot} is not in 0..{MAX_SLOT}")
    if info.slot in live:
        raise ObservationError(
            "opened.slot", f"{info.slot} is already open, for request {live[info.slot].request_id!r}"
        )
    if info.max_draft is not None and info.max_draft < 0:
        raise ObservationError("opened.max_draft", f"{info.max_draft} is negative")
    if info.prompt_tokens < 0:
        raise ObservationError("opened.prompt_tokens", f"{info.prompt_tokens} is negative")


def check_observation(
    observation: Observation, capabilities: Capabilities, live: RequestTable, last_sequence: int
) -> None:
    """Raises ObservationError, naming the field, where `observation` is impossible."""
    if observation.sequence <= last_sequence:
        raise ObservationError("sequence", f"{observation.sequence} does not follow {last_sequence}")
    _check_numbers(observation, capabilities)
    _check_arrays(observation, capabilities)
    opened: set[int] = set()
    for info in observation.opened:
        check_request(info, live)
        if info.slot in opened:
            raise ObservationError("opened.slot", f"{info.slot} is opened twice")
        opened.add(info.slot)
    # Mostly the same requests as in the step before: then they are live, and none is named twice.
    if not live.decoded_last(observation.slots):
        _check_slots(observation, live, opened)
    closed: set[int] = set()
    for slot in observation.closed_slots:
        if slot in closed:
            raise ObservationError("closed_slots", f"slot {slot} is closed twice")
        if slot not in live and slot not in opened:
            raise ObservationError("closed_slots", f"slot {slot} is not open")
        closed.add(slot)
    for slot in observation.unready_slots:
        if slot not in live and slot not in opened:
            raise ObservationError("unready_slots", f"slot {slot} is not open")
    if observation.drafter_skipped and not capabilities.deep_off:
        raise ObservationError("drafter_skipped", "is set by an engine that declared no deep_off")


def _check_slots(observation: Observation, live: RequestTable, opened: set[int]) -> None:
    slots = observation.slots.tolist()
    if observation.steps == 1 and len(set(slots)) != len(slots):
        raise ObservationError("slots", "a slot is named twice in one step")
    slot = live.first_missing(slots, opened)
    if slot is not None:
        raise ObservationError("slots", f"slot {slot} is not open")


def _check_numbers(observation: Observation, capabilities: Capabilities) -> None:
    if observation.steps < 1:
        raise ObservationError("steps", f"{observation.steps} is below 1")
    duration = observation.duration
    if duration is not None and not (math.isfinite(duration) and duration > 0.0):
        raise ObservationError("duration", f"{duration} is not a positive finite time")
    for name in ("emitted_tokens", "prefill_tokens", "requests"):
        if getattr(observation, name) < 0:
            raise ObservationError(name, f"{getattr(observation, name)} is negative")
    if not 0 <= observation.proposal_length <= capabilities.max_length:
        raise ObservationError(
            "proposal_length", f"{observation.proposal_length} is not in 0..{capabilities.max_length}"
        )
    if observation.requests > capabilities.max_batch * observation.steps:
        raise ObservationError(
            "requests", f"{observation.requests} exceeds the engine's max_batch, {capabilities.max_batch}"
        )
    usage = observation.kv_cache_usage
    if usage is not None and not 0.0 <= usage <= 1.0:
        raise ObservationError("kv_cache_usage", f"{usage} is not in 0..1")


def _check_arrays(observation: Observation, capabilities: Capabilities) -> None:
    n = observation.slots.size
    for name in ("proposed", "verified", "accepted", "context_tokens"):
        size = getattr(observation, name).size
        if size != n:
            raise ObservationError(name, f"has {size} entries where slots has {n}")
    if n > capabilities.max_batch * observation.steps:
        raise ObservationError(
            "slots", f"{n} requests exceed the engine's max_batch, {capabilities.max_batch}"
        )
    longest = capabilities.max_length
    bounds = (
        ("context_tokens", observation.context_tokens < 0, "is negative"),
        ("accepted", observation.accepted < 0, "is negative"),
        ("accepted", observation.accepted > observation.verified, "exceeds verified"),
        ("verified", observation.verified > observation.proposed, "exceeds proposed"),
        ("proposed", observation.proposed > longest, f"exceeds the engine's max_length, {longest}"),
    )
    for name, wrong, complaint in bounds:
        if np.count_nonzero(wrong):
            first = int(wrong.argmax())
            value = getattr(observation, name)[first]
            raise ObservationError(
                name, f"{value} of slot {observation.slots[first]} (entry {first}) {complaint}"
            )
