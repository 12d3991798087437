"""Who an engine is and what its adapter counts: what the control core has no use for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from turbospec.sidecar.core.types import Capabilities, RequestInfo


class EngineKey(NamedTuple):
    """Names one engine scheduler. Written "id/rank"."""

    engine_id: str
    rank: int

    def __str__(self) -> str:
        return f"{self.engine_id}/{self.rank}"


@dataclass(frozen=True, slots=True)
class Identity:
    """What the engine says of itself; the fields are those of the protocol's Hello."""

    engine_name: str
    engine_version: str
    adapter_version: str
    model: str
    draft_model: str
    method: str
    hardware: str
    dtype: str
    model_parallel_size: int
    max_context: int
    max_tokens_per_step: int


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a stream."""

    key: EngineKey
    epoch: int
    identity: Identity
    capabilities: Capabilities
    live_requests: tuple[RequestInfo, ...]


@dataclass(frozen=True, slots=True)
class AdapterCounters:
    """Totals since the adapter started. `fallbacks` is by the protocol's names of reasons."""

    fallbacks: Mapping[str, int] = field(default_factory=dict)
    coalesced_steps: int = 0
    dropped_steps: int = 0
    connections: int = 0
    memory_limited_steps: int = 0
