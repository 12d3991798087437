"""Shadow mode on a real engine: everything is worked out, nothing is applied, until an operator says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.patience import wait_until
from support.sidecar import Sidecar
from support.vllm_plans import mean_length, planned_mean_length
from support.vllm_server import RANK_IN_ENGINE_CORE, Load, Server
from support.vllm_setup import LENGTH, speculative_config
from turbospec.engines.models import MadeModels
from turbospec.engines.processes import free_port

pytestmark = pytest.mark.vllm


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    running = Sidecar(tmp_path, "goodput")
    running.set_policy("goodput", shadow=True)
    yield running
    running.stop()


@pytest.fixture
def server(models: MadeModels, sidecar: Sidecar, tmp_path: Path) -> Iterator[Server]:
    running = Server(
        str(models.target),
        speculative_config("draft_model", models),
        control_address=sidecar.control_address,
        port=free_port(),
        log=tmp_path / "server.log",
        arguments=RANK_IN_ENGINE_CORE,
    )
    try:
        running.wait_until_up()
        yield running
    finally:
        running.stop()


def test_a_production_engine_is_watched_and_then_controlled(server: Server, sidecar: Sidecar) -> None:
    """In shadow mode the engine keeps its own length and the gain is estimated; applying needs no restart.

    Which lengths it verifies is read from vLLM's own counters.
    """

    def engine() -> dict[str, Any]:
        return sidecar.engines()[0]

    with Load(server) as load:
        wait_until(lambda: "estimated_gain_ratio" in engine(), "estimated")
        wait_until(lambda: "shadow.estimate" in sidecar.log(), "logged")
        decisions = sidecar.decisions("server")
        assert all(decision["shadow"] and decision["explanation"] for decision in decisions)
        # By the id that the API answers with; the engine's own has more at its end.
        wait_until(lambda: sidecar.request("server", "cmpl-caller-0"), "looked up")
        # Less than its length now and then: no drafts beyond a request's end.
        assert mean_length(server.url, 1000) > LENGTH - 1.5
        assert not engine().get("controlled", False)
        assert engine()["uncontrolled_reason"].startswith("shadow: ")
        sidecar.set_policy("static:1", shadow=False)
        wait_until(lambda: engine().get("controlled", False), "controlled")
        assert planned_mean_length(sidecar, server.url, 200) < 1.5
        assert "estimated_gain_ratio" not in engine()
        assert not any(decision.get("shadow", False) for decision in sidecar.decisions("server"))
    assert load.failures == []
