"""`turbospec status` and `turbospec set-policy`, against a running controller and without one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine_stream import EngineStream, report
from support.serving import Server, turbospec


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


def test_status_tells_a_person_what_goes_on(server: Server) -> None:
    """Nobody connected yet: what to do. Then: controlled, lengths, why, acceptance, goodput."""
    empty = turbospec("status", "--address", server.introspection)
    assert empty.returncode == 0
    assert "No engine has connected. Start one with: turbospec engine vllm" in empty.stdout
    with EngineStream.connected(server.control, engine_id="vllm-0") as engine:
        before = turbospec("status", env={"TURBOSPEC_INTROSPECTION_ADDRESS": server.introspection})
        assert "not controlled: connected, but no step has been reported yet" in before.stdout
        for sequence in range(1, 30):
            engine.plan(report(sequence, plan_version=sequence))
        shown = turbospec("status", "--address", server.introspection).stdout
        rows = {line[2:14].strip(): line[15:] for line in shown.splitlines() if line.startswith("  ")}
        assert rows["state"] == "controlled"
        assert rows["policy"] == "goodput"
        assert rows["acceptance"] == "60.0% of verified drafts"
        assert rows["goodput"].startswith("500 tokens/s realised")
        assert len(rows["by position"].split()) == 5
        assert rows["because"] != "-"
        assert rows["costs"] == "no profile"
        assert "2 requests: measured " in shown
        assert max(map(len, shown.splitlines())) <= 100
        (listed,) = json.loads(turbospec("status", "--json", "--address", server.introspection).stdout)[
            "engines"
        ]
        assert listed["summary"]["engineId"] == "vllm-0"


def test_set_policy_changes_it_and_says_for_whom(server: Server) -> None:
    """By the socket in the environment; refusals carry the controller's words."""
    with EngineStream.connected(server.control, engine_id="vllm-1") as engine:
        done = turbospec(
            *("set-policy", "static:2", "--engine", "vllm-1", "--rank", "0"),
            env={"TURBOSPEC_OPERATIONS_ADDRESS": server.operations},
        )
        assert (done.returncode, done.stdout) == (0, "static:2: vllm-1/0\n")
        assert engine.next().plan.batch_proposal_length == 2
    wrong = turbospec("set-policy", "best", "--address", server.operations)
    assert wrong.returncode == 1
    assert "unknown policy 'best'; valid policies: goodput, off, idle, static:K" in wrong.stderr
    for rank in (("--rank", "1"), ("--engine", "vllm-1", "--rank", str(1 << 40))):
        refused = turbospec("set-policy", "idle", *rank, "--address", server.operations)
        assert refused.returncode == 2
        assert "--rank is from 0 to 65535 and needs --engine" in refused.stderr


def test_without_a_controller_both_say_what_to_do(tmp_path: Path) -> None:
    """Exit status 1 and how to start one."""
    for verb, address in (
        (("status",), "127.0.0.1:9"),
        (("set-policy", "idle"), f"unix:{tmp_path}/operations.sock"),
    ):
        refused = turbospec(*verb, "--address", address)
        assert refused.returncode == 1
        assert f"no controller answers at {address}" in refused.stderr
        assert "turbospec serve" in refused.stderr


def test_a_wrong_address_or_token_file_is_named(server: Server, tmp_path: Path) -> None:
    """Another of the controller's addresses answers, but not to this; a token is text."""
    refused = turbospec("set-policy", "idle", "--address", server.control)
    assert refused.returncode == 1
    assert f"{server.control} is not a controller's operations address" in refused.stderr
    (tmp_path / "token").write_bytes(b"\xff")
    refused = turbospec("set-policy", "idle", "--token-file", str(tmp_path / "token"))
    assert refused.returncode == 2
    assert f"--token-file {tmp_path / 'token'}: is not text" in refused.stderr
