"""The server answers whatever becomes of the controller: absent, killed, stopped or talking nonsense.

The same checks as for vLLM, and as there they fail with a client that waits on the engine's thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.fail_open import (
    check_kill_loses_no_request,
    check_lies_are_ignored,
    check_serves_alone,
    check_stop_loses_no_request,
)
from support.sglang_changed import VARIABLE
from support.sglang_server import Server
from support.sglang_setup import EngineOptions
from support.sidecar import SOURCE_ROOTS
from turbospec.engines.models import MadeModels
from turbospec.engines.processes import free_port

pytestmark = pytest.mark.sglang


@contextmanager
def running_server(
    models: MadeModels, directory: Path, grace_seconds: float = 30.0, **environ: str
) -> Iterator[Server]:
    options = EngineOptions(
        model=str(models.target),
        method="STANDALONE",
        draft=str(models.draft),
        environ={
            "PYTHONPATH": os.pathsep.join([SOURCE_ROOTS, str(Path(__file__).parents[1])]),
            **environ,
        },
    )
    # As a user starts it.
    launcher = ["turbospec.cli.main", "engine", "sglang", "--engine-id", "server"]
    launcher += ["--control-address", f"unix:{directory / 'control.sock'}", "--"]
    server = Server(options, free_port(), directory / "server.log", launcher)
    try:
        server.wait_until_up()
        yield server
    finally:
        server.stop(grace_seconds)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("control")


@pytest.fixture(scope="module")
def server(models: MadeModels, directory: Path) -> Iterator[Server]:
    """Started without a controller."""
    with running_server(models, directory) as running:
        yield running


def test_serves_without_a_controller(server: Server) -> None:
    """The server starts with no controller there, and serves."""
    check_serves_alone(server)


def test_killed_controller(server: Server, directory: Path) -> None:
    """A controller killed under load costs no request; its successor takes over within 3 s."""
    check_kill_loses_no_request(server, directory)


def test_stopped_controller(server: Server, directory: Path) -> None:
    """A controller stopped for 10 s under load costs no request, and controls again within 3 s."""
    check_stop_loses_no_request(server, directory)


@pytest.mark.parametrize("behaviour", ["too-long", "undecodable"])
def test_lying_controller(server: Server, directory: Path, tmp_path: Path, behaviour: str) -> None:
    """Plans that are impossible, or no plans at all, are ignored, counted, and the count is reported."""
    check_lies_are_ignored(server, directory, tmp_path / "journal", behaviour)


def test_an_adapter_that_waits_fails_these_checks(models: MadeModels, tmp_path: Path) -> None:
    """The negative control: with a client that blocks the engine, each check fails."""
    # One that is blocked heeds no signal.
    with running_server(models, tmp_path, 0.0, **{VARIABLE: "blocking-client"}) as server:
        with pytest.raises(AssertionError):
            check_serves_alone(server)
        with pytest.raises(AssertionError, match="not answering after the kill"):
            check_kill_loses_no_request(server, tmp_path)
