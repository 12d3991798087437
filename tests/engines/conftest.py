"""What the engines' tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.serving import Server

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def _subprocesses_see_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python processes started by a test import the same code as the test itself."""
    roots = [str(_ROOT / root) for root in ("proto", "sidecar", "adapters", "engines")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(roots))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A sidecar with a store, for all tests of a module: engines have ids of their own."""
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory, "--profiles-directory", str(directory / "profiles"))
    yield server
    server.stop()
