"""What the real controller makes of an engine's messages: its own readers, checks and estimators."""

from __future__ import annotations

import time

from turbospec.sidecar.core.errors import ObservationError
from turbospec.sidecar.server.engine import Directives, Engine
from turbospec.sidecar.server.wire.errors import MessageError
from turbospec.sidecar.server.wire.hello import read_first
from turbospec.sidecar.server.wire.report import read_counters, read_report
from turbospec.v1 import speculation_pb2 as pb

_ROOM = 1024


class Judge:
    """One engine, over all of its connections. The methods return why a message would be refused, if so."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    @property
    def learnt(self) -> float:
        """How many tests of a first draft the acceptance of all traffic rests on."""
        return float(self._engine.controller.acceptance().evidence[0]) if self._engine else 0.0

    def hello(self, request: pb.ControlRequest) -> list[str]:
        """A connection starts."""
        try:
            hello = read_first(request, _ROOM)
            if self._engine is None or self._engine.key != hello.key:
                self._engine = Engine(hello, Directives("goodput"), time.monotonic)
            self._engine.connect(hello)
        except (MessageError, ObservationError) as error:
            return [str(error)]
        return []

    def report(self, request: pb.ControlRequest) -> list[str]:
        """A step is reported."""
        if self._engine is None:
            return ["no hello could be read"]
        try:
            if request.WhichOneof("message") != "report":
                return ["only reports follow a hello"]
            self._engine.observe(read_report(request.report, self._engine.hello, _ROOM))
            read_counters(request.report)
        except (MessageError, ObservationError) as error:
            return [str(error)]
        return []
