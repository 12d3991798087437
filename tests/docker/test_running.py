"""The compose file's CPU profile, up: requests, introspection, a sidecar that dies, an engine that dies."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

import pytest
from support.buf import buf, needs_buf
from support.compose import ROOT
from support.docker_engine import docker
from support.docker_stack import Stack, wait
from support.patience import PATIENCE_SECONDS
from support.vllm_server import Load
from turbospec.v1 import speculation_pb2 as pb

pytestmark = pytest.mark.docker
CONNECT = "import socket; socket.socket(socket.AF_UNIX).connect('/run/turbospec/{}.sock')"


def serve(stack: Stack, requests: int = 4) -> None:
    """A few requests, all of them answered whole."""
    with Load(stack) as load:
        wait(lambda: load.answered >= requests or load.failures, "answered")
    assert not load.failures


def serve_controlled(stack: Stack) -> None:
    """As many as it takes until the newest step ran under a plan: the last one may find none."""
    with Load(stack) as load:
        wait(lambda: load.failures or (load.answered >= 4 and stack.controlled()), "controlled")
    assert not load.failures


def documented_looks() -> list[tuple[str, str]]:
    """Request and call of the commands with which the documentation asks whether it works."""
    text = (ROOT / "docs" / "deployment.md").read_text()
    return re.findall(r"grpcurl -plaintext (?:-d '(.+)' )?127\.0\.0\.1:50052 (\S+)", text)


def look(stack: Stack, request: str, call: str) -> dict[str, Any]:
    """What a client tells that knows nothing but the address: everything else comes by reflection."""
    how = ["--protocol", "grpc", "--http2-prior-knowledge", "--data", request or "{}"]
    told: dict[str, Any] = json.loads(buf("curl", *how, f"http://{stack.introspection}/{call}"))
    return told


def listens(host: str, port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection((host, port), PATIENCE_SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True


def counted(stack: Stack) -> dict[str, int]:
    """Steps without a plan, by reason."""
    engine = stack.engine()
    return {pb.FallbackReason.Name(each.reason): each.count for each in engine.fallbacks} if engine else {}


def test_requests_are_answered_under_control(up: Stack) -> None:
    """Engine and sidecar found each other over the shared socket."""
    serve_controlled(up)
    up.wait_until_healthy("sidecar")


@needs_buf
def test_a_reflection_client_looks_in_over_the_published_port(up: Stack) -> None:
    """The three looks of the documentation show what it says they do."""
    serve(up)
    engines, engine, decisions = (look(up, *documented) for documented in documented_looks())
    (listed,) = engines["engines"]
    assert (listed["engineId"], listed["connected"]) == (up.ENGINE_ID, True)
    assert engine["identity"]["engineName"] == "vllm"
    assert engine["acceptance"]
    assert engine["latency"]
    assert len(decisions["decisions"]) == 3
    assert any(decision.get("candidates") for decision in decisions["decisions"])


def test_only_loopback_is_published(up: Stack) -> None:
    """Introspection and the API answer at no other address of this machine, metrics in the network only."""
    (network,) = up.inspect("sidecar")["NetworkSettings"]["Networks"].values()
    for port in (up.port, int(up.introspection.rpartition(":")[2])):
        assert listens("127.0.0.1", port)
        assert not listens(network["Gateway"], port)
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        # The check finds what is open.
        assert listens(network["Gateway"], everywhere.getsockname()[1])
    assert "50053" not in docker("port", up.container("sidecar"))
    read = "from urllib.request import urlopen as o; print(o('http://sidecar:50053/metrics').read().decode())"
    assert "turbospec_connected_engines 1.0" in up.execute("engine-cpu", "python3", "-c", read)


def test_an_operator_changes_the_policy_from_within(up: Stack) -> None:
    """Operations have a socket that only the sidecar's own user opens; an engine in its group does not."""
    up.execute("sidecar", "turbospec", "set-policy", "static:2")
    wait(lambda: (engine := up.engine()) is not None and engine.policy == "static:2", "static:2")
    connect = ["engine-cpu", "python3", "-c"]
    assert "PermissionError" in up.execute(*connect, CONNECT.format("operations"), check=False)
    up.execute(*connect, CONNECT.format("control"))
    up.execute("sidecar", "turbospec", "set-policy", "goodput")
    assert "Read-only file system" in up.execute("sidecar", "touch", "/somewhere", check=False)


def test_service_goes_on_while_the_sidecar_is_dead_and_control_returns(up: Stack) -> None:
    """Killed in the middle of requests: none fails, nor do those that follow, and the next one takes over."""
    serve_controlled(up)
    without = counted(up).get("FALLBACK_REASON_DISCONNECTED", 0)
    with Load(up) as load:
        wait(lambda: load.answered >= 4, "answered before")
        up.kill("sidecar")
        before = load.answered
        wait(lambda: load.failures or load.answered >= before + 12, "answered without a sidecar")
        assert not up.running("sidecar")
        up.start("sidecar")
        wait(lambda: load.failures or up.controlled(), "controlled again")
    assert not load.failures
    wait(lambda: counted(up).get("FALLBACK_REASON_DISCONNECTED", 0) > without, "steps without it counted")
    assert up.inspect("engine-cpu")["RestartCount"] == 0


def test_a_sidecar_that_crashes_is_restarted(up: Stack) -> None:
    """By Docker itself, and the engine comes back under control."""
    # All processes but the container's init.
    up.execute("sidecar", "sh", "-c", "kill -KILL -1", check=False)
    wait(lambda: up.inspect("sidecar")["RestartCount"] > 0 and up.running("sidecar"), "restarted")
    with Load(up) as load:
        wait(lambda: load.failures or up.controlled(), "controlled again")
    assert not load.failures


def test_one_variable_swaps_the_engine(up: Stack, sglang_image: str) -> None:
    """ENGINE=sglang and nothing else: the same sidecar, requests, models and introspection."""
    sidecar, before = up.container("sidecar"), up.engine_name()
    up.up("sglang")
    assert up.container("sidecar") == sidecar
    assert up.inspect("engine-cpu")["Config"]["Image"] == sglang_image
    serve_controlled(up)
    assert (before, up.engine_name()) == ("vllm", "sglang")


def test_a_dead_engine_is_noticed(up: Stack) -> None:
    """Negative control: the same load tells when service does not go on. The last: the engine stays dead."""
    with Load(up) as load:
        wait(lambda: load.answered >= 4, "answered before")
        up.kill("engine-cpu")
        wait(lambda: load.failures, "failing")
    wait(lambda: not up.controlled(), "not controlled")
