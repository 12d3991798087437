"""vLLM in one process and in several: ranks of one model, replicas of it, several API servers, restarts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.patience import wait_until
from support.sidecar import Sidecar
from support.vllm_server import Load, Server
from support.vllm_setup import LENGTH, speculative_config
from support.vllm_worker import Ask, Engine, EngineOptions
from turbospec.engines.models import MadeModels
from turbospec.engines.processes import free_port

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    running = Sidecar(tmp_path_factory.mktemp("sidecar"), "random:5")
    yield running
    running.stop()


@contextmanager
def serving(models: MadeModels, sidecar: Sidecar, log: Path, *arguments: str) -> Iterator[Server]:
    """A server of the engine id "server", with these of vLLM's arguments."""
    server = Server(
        str(models.target),
        speculative_config("draft_model", models),
        control_address=sidecar.control_address,
        port=free_port(),
        log=log,
        arguments=arguments,
    )
    try:
        server.wait_until_up()
        yield server
    finally:
        server.stop()


def controlled(sidecar: Sidecar) -> dict[int, dict[str, Any]]:
    """The engines under control, by rank."""
    return {engine.get("rank", 0): engine for engine in sidecar.engines() if engine.get("controlled")}


def test_replicas_are_engines_of_their_own(models: MadeModels, sidecar: Sidecar, tmp_path: Path) -> None:
    """Two data-parallel ranks behind two API servers: each is controlled, and requests are answered."""
    with (
        serving(
            models, sidecar, tmp_path / "log", "--data-parallel-size", "2", "--api-server-count", "2"
        ) as server,
        Load(server, callers=8) as load,
    ):
        wait_until(lambda: set(controlled(sidecar)) == {0, 1}, "controlled")
        wait_until(lambda: all(int(e.get("steps", 0)) > 200 for e in sidecar.engines()), "at work")
        wait_until(lambda: load.answered >= 16, "answered")
    assert load.failures == []
    assert {engine["engine_id"] for engine in sidecar.engines()} == {"server"}


def test_a_restarted_engine_may_have_another_shape(
    models: MadeModels, sidecar: Sidecar, tmp_path: Path
) -> None:
    """Two tensor-parallel ranks are one engine. It comes back under the id of an engine that is gone.

    Every rank computes the lengths that rank 0 was given: were they to differ, the ranks' collective
    operations would not match, and no request would be answered.
    """
    with (
        serving(models, sidecar, tmp_path / "log", "--tensor-parallel-size", "2") as server,
        Load(server) as load,
    ):
        wait_until(lambda: 0 in controlled(sidecar), "controlled")
        wait_until(lambda: int(controlled(sidecar).get(0, {}).get("steps", 0)) > 200, "at work")
        wait_until(lambda: load.answered >= 8, "answered")
        identity = sidecar.engine("server")["identity"]
    assert load.failures == []
    assert identity["model_parallel_size"] == 2
    assert identity["max_length"] == LENGTH


def test_a_killed_engine_comes_back(models: MadeModels, sidecar: Sidecar, asks: list[Ask]) -> None:
    """In one process (`VLLM_ENABLE_V1_MULTIPROCESSING=0`), killed at work: the next one has its id.

    Its answers are the same, and of the killed one's requests none is left.
    """
    options = EngineOptions(
        model=str(models.target),
        speculative=speculative_config("ngram", models),
        environ={
            "TURBOSPEC_CONTROL_ADDRESS": sidecar.control_address,
            "TURBOSPEC_ENGINE_ID": "phoenix",
        },
    )

    def summary() -> dict[str, Any]:
        return sidecar.engine("phoenix")["summary"]

    engine = Engine(options)
    engine.wait_controlled()
    answers, evidence = engine.generate(asks)
    assert evidence.controlled_steps >= 50
    with ThreadPoolExecutor(1) as caller:
        running = caller.submit(engine.generate, asks)
        wait_until(lambda: summary().get("requests", 0) > 4, "at work")
        engine.kill()
        assert isinstance(running.exception(), EOFError)
    wait_until(lambda: not summary().get("connected", False), "noticed")
    steps = int(summary().get("steps", 0))
    engine = Engine(options)
    try:
        engine.wait_controlled()
        assert int(summary().get("steps", 0)) < steps
        again, evidence = engine.generate(asks)
        assert again == answers
        assert evidence.controlled_steps >= 50
        assert engine.held_state() == {}
        assert summary().get("requests", 0) <= 1, "the killed engine's are forgotten"
    finally:
        engine.stop()
