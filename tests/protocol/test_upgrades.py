"""Upgrades: either side may be newer than the other, in any order, and both ways back.

The older side is the protocol's first state with the software of its day (`support/previous_protocol`), the
newer one today's. Both are real processes: engines with their adapter's client, and `turbospec serve`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.buf import buf, needs_buf
from support.patience import wait_until
from support.previous_protocol.versions import (
    FIRST,
    PRESENT,
    PREVIOUS,
    EngineProcess,
    first_messages,
    renumbered,
)
from support.serving import Server
from turbospec.v1 import operations_pb2
from turbospec.v1 import speculation_pb2 as pb

ROOT = Path(__file__).parents[2]
LENGTH = 3
# What an engine's log says where it refuses what a controller sends, or is refused for what it sends itself.
REFUSAL = re.compile(
    r"ignored what the controller sent|\.sock: (INVALID_ARGUMENT|FAILED_PRECONDITION|INTERNAL): \w"
)
FAULT = "failed and is disabled"
OTHER_VERSION = "from turbospec.sidecar.server import limits; limits.PROTOCOL_VERSION = 2; "
COMMAND = "import sys; from turbospec.cli.main import main; sys.exit(main())"

Engines = Callable[..., EngineProcess]
Sidecars = Callable[..., Server]


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecars]:
    """Starts sidecars of any version, all at the same addresses; none outlives the test."""
    started: list[Server] = []

    def start(roots: str, *, program: str = COMMAND) -> Server:
        policy = ("--policy", f"static:{LENGTH}")
        started.append(Server(tmp_path, *policy, env={"PYTHONPATH": roots}, program=("-c", program)))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Engines]:
    """Starts engines; they are ended with the test."""
    started: list[EngineProcess] = []

    def start(roots: str, server: Server, engine_id: str, **more: Any) -> EngineProcess:
        started.append(EngineProcess(roots, server.control, engine_id, tmp_path, **more))
        return started[-1]

    yield start
    for engine in started:
        engine.__exit__(None, None, None)


def hold(engine: EngineProcess, condition: Callable[[dict[str, Any]], object], what: str) -> dict[str, Any]:
    """The engine's state, once `condition` holds. Fails as soon as one side refuses what the other sends."""
    states: list[dict[str, Any]] = []

    def holds() -> object:
        log = engine.log()
        assert not REFUSAL.search(log), log
        assert FAULT not in log, log
        states[:] = [engine.state()]
        return condition(states[0])

    wait_until(holds, f"{engine.engine_id}: {what}")
    assert set(states[0]["fallbacks"]) <= {"DISCONNECTED", "NO_PLAN", "EXPIRED"}, "no plan was refused"
    return states[0]


def check_control(engine: EngineProcess, server: Server) -> dict[str, Any]:
    """Plans reach the requests that they name, and reports teach what happened: first drafts are good, others
    are not."""

    def planned(state: dict[str, Any]) -> bool:
        lengths = dict((state["plan"] or {}).get("lengths", {}))
        # One request's caller wants no more than 1.
        return lengths.pop("stays", None) == 1 and len(lengths) == 3 and set(lengths.values()) == {LENGTH}

    state = hold(engine, planned, "plans name its requests")
    assert state["plan"]["proposal_length"] == LENGTH

    def learned(_: object) -> bool:
        seen = server.engine(engine.engine_id)
        first, second, *_ = seen.acceptance.hazards
        steps = seen.summary.steps
        return seen.summary.controlled and steps > 100 and first > 0.9 and second < 0.1

    hold(engine, learned, "its steps teach")
    return state


def turn_off(server: Server) -> None:
    request = operations_pb2.SetPolicyRequest(policy="off")
    server.operate.SetPolicy(request, timeout=60)


def test_a_sidecar_is_upgraded_and_rolled_back_under_engines_of_both_versions(
    sidecar: Sidecars, engines: Engines
) -> None:
    """Both engines follow the first sidecar, today's, and the first again, and never stop.

    Today's uses what only today's engine can do: it skips that one's drafter, and has the other one run at
    length 0, with a hint that it does not know. Back under the first, today's engine reports what that one
    does not know.
    """
    first = sidecar(PREVIOUS)
    old, new = engines(PREVIOUS, first, "old"), engines(PRESENT, first, "new")
    for engine in (old, new):
        check_control(engine, first)
    assert first.stop() == 0

    today = sidecar(PRESENT)
    for engine in (old, new):
        check_control(engine, today)
    turn_off(today)

    def off(state: dict[str, Any]) -> bool:
        return state["plan"] is not None and state["plan"]["proposal_length"] == 0

    asked = {"Plan.13", "StepReport.21"}
    skips = hold(new, lambda s: off(s) and asked <= set(s["fields"]), "skips its drafter")
    assert "StepReport.20" in skips["fields"]
    # Its report may still be on its way.
    wait_until(lambda: today.engine("new").summary.unready_requests > 0, "the sidecar knows what is unready")
    # The hint that reports may wait is not known to the old engine: each step goes on being reported.
    idle = hold(old, lambda s: off(s) and "Plan.14" in s["fields"], "idles, and gets a hint")
    later = hold(old, lambda s: off(s) and s["steps"] > idle["steps"] + 200, "goes on")
    assert "Plan.13" not in later["fields"], "it cannot skip its drafter and was never asked to"
    wait_until(lambda: today.engine("old").summary.controlled, "controlled in the sidecar's eyes too")
    assert today.stop() == 0

    back = sidecar(PREVIOUS)
    # By now the old and the new one have other requests, but for the one that stays.
    assert not {"StepReport.21", "Plan.13", "Plan.14"} & set(check_control(old, back)["fields"])
    unknown = hold(new, lambda s: {"StepReport.21", "AdapterCounters.5"} <= set(s["fields"]), "tells more")
    assert not {"Plan.13", "Plan.14"} & set(unknown["fields"])
    check_control(new, back)
    assert back.stop() == 0
    # All three wrote to one log.
    assert not back.events("stream.refused")
    assert not back.events("controller.failed")


def test_what_breaks_the_protocol_is_noticed(tmp_path: Path, sidecar: Sidecars, engines: Engines) -> None:
    """Negative control: an older engine, or an older sidecar, one of whose fields has another number."""
    server = sidecar(PRESENT)
    engine = engines(renumbered(tmp_path / "engine", "StepReport", "accepted"), server, "broken")
    with pytest.raises(AssertionError, match=r"report\.accepted"):
        check_control(engine, server)
    server.stop()
    server = sidecar(renumbered(tmp_path / "sidecar", "Plan", "batch_proposal_length"))
    engine = engines(PRESENT, server, "whole")
    with pytest.raises(AssertionError, match="ignored what the controller sent"):
        check_control(engine, server)
    server.stop()


@pytest.mark.parametrize(("says", "speaks"), [(2, 1), (1, 2)], ids=["engine first", "sidecar first"])
def test_another_version_is_refused_by_both_names(
    sidecar: Sidecars, engines: Engines, says: int, speaks: int
) -> None:
    """The engine serves on with its own length, its log and the sidecar's name both versions, and the engine
    follows again as soon as there is a sidecar of its version, without a restart."""
    server = sidecar(PRESENT, program=(OTHER_VERSION if speaks == 2 else "") + COMMAND)
    engine = engines(PRESENT if says == 2 else PREVIOUS, server, "other", protocol_version=says)
    words = f"hello.protocol_version: this controller speaks {speaks}, not {says}"
    wait_until(lambda: words in engine.log(), "refused in the engine's log")
    refused, *_ = server.wait_for("stream.refused")
    assert refused["code"] == "FAILED_PRECONDITION"
    assert refused["error"] == words
    # Over several attempts, which its log does not repeat.
    wait_until(lambda: len(server.events("stream.refused")) >= 3, "refused again")
    state = engine.state()
    assert state["plan"] is None
    assert state["connections"] == 0
    assert set(state["fallbacks"]) == {"DISCONNECTED"}
    assert engine.log().count(words) == 1
    server.stop()
    server = sidecar(PRESENT, program=(OTHER_VERSION if says == 2 else "") + COMMAND)
    wait_until(lambda: engine.state()["plan"] is not None, "controlled")
    server.stop()


@pytest.mark.parametrize("name", ["Disturbance", "FallbackReason"])
def test_engines_send_no_values_that_older_sidecars_refuse(name: str) -> None:
    """A sidecar ends the stream at a value that it does not know, so these have none but the first ones."""
    (first,) = (each for each in first_messages().enum_type if each.name == name)
    today = pb.DESCRIPTOR.enum_types_by_name[name]
    assert [(v.name, v.number) for v in today.values] == [(v.name, v.number) for v in first.value]


@needs_buf
def test_buf_finds_nothing_broken_since_the_first_state(tmp_path: Path) -> None:
    """By buf's FILE rules. Negative control: a field with another number is found."""
    against = f"{FIRST}#subdir=proto"
    buf("breaking", "--against", against)
    shutil.copytree(ROOT / "proto", tmp_path / "proto", ignore=shutil.ignore_patterns("*.py*"))
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    path = tmp_path / "proto/turbospec/v1/speculation.proto"
    path.write_text(path.read_text().replace("uint32 accepted = 13;", "uint32 accepted = 113;"))
    with pytest.raises(AssertionError, match=r"speculation.proto.*\"13\".*deleted"):
        buf("breaking", str(tmp_path), "--against", against)
