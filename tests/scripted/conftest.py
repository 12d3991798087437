"""The controller process that scripted engines connect to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.serving import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all: engines have ids of their own. Plans live as long as adapters let them, since a busy
    machine's time is not the engine's."""
    server = Server(tmp_path_factory.mktemp("server"), "--plan-time-to-live-ms", "10000")
    yield server
    server.stop()
