"""One engine at one moment, taken on the event loop that owns it; any thread may do the rest."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from turbospec.sidecar.server.engine import Engine
from turbospec.sidecar.server.metrics.tally import Tally
from turbospec.sidecar.server.wire import views
from turbospec.v1 import introspection_pb2 as pb


@dataclass(frozen=True, slots=True)
class EngineSample:
    """Copies: `state` is what introspection tells, so that both always say the same."""

    state: pb.GetEngineResponse
    tally: Tally
    drifts: int
    slowdown_ratio: float

    @property
    def connected(self) -> bool:
        """Whether the engine's stream was open."""
        return self.state.summary.connected


def take(engine: Engine, now: float) -> EngineSample:
    """`now` is in the engine's clock."""
    return EngineSample(
        state=views.engine_state(engine, now),
        tally=deepcopy(engine.tally),
        drifts=engine.controller.acceptance().drifts,
        slowdown_ratio=engine.controller.latency().slowdown_ratio,
    )
