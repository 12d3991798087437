"""The real server, with a controller that has a bug: it fails on every report of 13 requests.

Run as a program in place of the `turbospec` command.
"""

from __future__ import annotations

import sys

from turbospec.cli.main import main
from turbospec.sidecar.core.types import Observation
from turbospec.sidecar.server import engine


class FaultyController(engine.EngineController):
    def observe(self, obs: Observation) -> None:
        super().observe(obs)
        if obs.requests == 13:
            raise ZeroDivisionError("a bug")


if __name__ == "__main__":
    engine.EngineController = FaultyController  # type: ignore[misc]
    sys.exit(main())
