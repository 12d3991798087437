"""`turbospec profile` as its user meets it: a real sidecar, a live engine with stated costs, others' load."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

import pytest
from support import profiled_engine
from support.patience import PATIENCE_SECONDS, wait_until
from support.profiled_engine import MODEL, ProfiledEngine
from support.profiling import COSTS, NOISE, arguments, check_costs, here, live, policy, stored
from support.scripted.costs import Costs, linear
from support.scripted.hello import capabilities
from support.scripted.machine import Machine
from support.serving import Server, environment, turbospec
from turbospec.cli.main import main
from turbospec.engines.load import open_session, stream
from turbospec.engines.profiling import survey
from turbospec.engines.profiling.plan import VISIT_STEPS
from turbospec.sidecar.profiles.profile import Cell
from turbospec.v1 import introspection_pb2, operations_pb2


class Foreign:
    """Somebody else's requests: long prompts, now one and now none."""

    PROMPT = 1500

    def __init__(self, url: str, pause: float) -> None:
        self.answered = 0
        self._url = url
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()))

    async def _ask(self) -> None:
        body = {
            "model": MODEL, "prompt": [7] * self.PROMPT, "max_tokens": 20, "temperature": 0,
            "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }  # fmt: skip
        async with open_session() as session:
            while not self._stop.is_set():
                async for _ in stream(session, self._url, body):
                    pass
                self.answered += 1
                await asyncio.sleep(self._pause)

    def __enter__(self) -> Foreign:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


def test_a_live_engine_is_profiled_beside_other_traffic(server: Server, tmp_path: Path) -> None:
    """The stored profile holds the stated costs of every kind of step, other requests are served meanwhile
    and enter no cell, the policy is as before, and the report is text, JSON and a picture.
    """
    report, picture, output = (tmp_path / name for name in ("report.json", "p.png", "profile.json"))
    with live(server, "busy", capabilities=capabilities(2, deep_off=True, max_batch=4)) as engine:
        selector = operations_pb2.EngineSelector(engine_id="busy")
        request = operations_pb2.SetPolicyRequest(engine=selector, policy="static:1")
        server.operate.SetPolicy(request, timeout=PATIENCE_SECONDS)
        with Foreign(engine.url, pause=0.15) as foreign:
            done = turbospec(
                *arguments(server, engine, tmp_path, "--engine-id", "busy", "--max-requests", "2"),
                *("--json", str(report), "--picture", str(picture), "--output", str(output)),
            )
        assert done.returncode == 0, done.stderr
        assert policy(server, "busy") == "static:1"
        assert set(engine.lengths) == {0, 1, 2}
        assert foreign.answered > 3
    assert "Engine 'busy' is under policy 'static:1' again." in done.stdout
    assert "with requests of others" in done.stdout
    assert "of 8 cells are known to 1%. Their times are uncertain by" in done.stdout
    assert "The goal is kept." in done.stdout
    content = json.loads(report.read_text())
    assert content["steps"]["foreign"] > 50
    assert content["not_measured"] == []
    cells = stored(server, engine, report)
    check_costs(cells, COSTS)
    decode = {(c.requests, c.proposal_length, c.drafter_skipped) for c in cells if not c.prefill_tokens}
    assert decode == {(n, *mode) for n in (1, 2) for mode in ((0, False), (0, True), (1, False), (2, False))}
    # Ours run for 256 tokens; one foreign request among two would have a mean of twice as much.
    assert max(cell.context_tokens / cell.requests for cell in cells) < 64 + 300 < Foreign.PROMPT / 2
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads(output.read_text())["profile"]["source"] == "sweep"
    assert not list((tmp_path / "working").iterdir())
    wrong = Costs(linear(0.021, 0.0005), context_token=2e-6, prefill_token=2e-5)
    with pytest.raises(AssertionError):
        check_costs(cells, wrong)


def profiled(server: Server, engine: ProfiledEngine, engine_id: str, directory: Path) -> list[Cell]:
    """The decode cells of an engine that is profiled without obstacles."""
    report = directory / "report.json"
    done = here(*arguments(server, engine, directory, "--engine-id", engine_id, "--json", str(report)))
    assert done.returncode == 0, done.stderr
    assert json.loads(report.read_text())["not_measured"] == []
    return [cell for cell in stored(server, engine, report) if not cell.prefill_tokens]


def test_ragged_widths_are_measured_where_they_lose_graphs(server: Server, tmp_path: Path) -> None:
    """Requests of differing widths are on a surface of their own, and the profile has both."""
    costs = Costs(linear(0.02, 0.0005), linear(0.03, 0.0007))
    abilities = capabilities(2, max_batch=2, ragged_breaks_graphs=True)
    with live(server, "graphs", capabilities=abilities, machine=Machine(costs, noise=NOISE)) as engine:
        cells = profiled(server, engine, "graphs", tmp_path)
    check_costs(cells, costs)
    widths = {(cell.requests, cell.target_tokens, cell.ragged) for cell in cells}
    uniform = {(n, n * (1 + k), False) for n in (1, 2) for k in (0, 1, 2)}
    assert uniform | {(2, 5, True)} <= widths


def test_an_engine_with_fixed_proposals_is_measured_by_what_it_verifies(
    server: Server, tmp_path: Path
) -> None:
    """It drafts its longest length whatever is set; lengths are those of verification."""
    with live(server, "fixed", capabilities=capabilities(2, max_batch=2, proposal_settable=False)) as engine:
        cells = profiled(server, engine, "fixed", tmp_path)
        assert set(engine.lengths) == {2}
    check_costs(cells, COSTS)
    assert {cell.proposal_length for cell in cells} == {2}
    assert {(n, n * (1 + k)) for n in (1, 2) for k in (0, 1, 2)} <= {
        (cell.requests, cell.target_tokens) for cell in cells if not cell.ragged
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_restores_the_policy_and_goes_on(
    server: Server, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C or SIGTERM the engine is as before, and the same command makes only the visits that are
    left; with --restart all of them.
    """
    engine_id = f"interrupted-{number.name}"
    with live(server, engine_id, capabilities=capabilities(2, deep_off=True, max_batch=1)) as engine:
        command = arguments(server, engine, tmp_path, "--engine-id", engine_id)
        with monkeypatch.context() as slowly:
            # So that it does not come to its end before it is interrupted.
            slowly.setattr(profiled_engine, "_STEP_SECONDS", 0.02)
            process = subprocess.Popen(
                [sys.executable, "-m", "turbospec.cli.main", *command],
                env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            working = tmp_path / "working"
            wait_until(lambda: working.is_dir() and list(working.glob("*.profiling.json")), "measuring")
            assert policy(server, engine_id) != "goodput"
            process.send_signal(number)
            stdout, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 130
        assert f"Engine {engine_id!r} is under policy 'goodput' again." in stdout
        assert "what was measured is kept in" in stdout
        assert policy(server, engine_id) == "goodput"
        if number is signal.SIGTERM:
            return
        (kept,) = working.glob("*.profiling.json")
        saved = kept.read_bytes()
        again = here(*command)
        assert again.returncode == 0, again.stderr
        assert "were made before; --restart begins anew" in again.stdout
        kept.write_bytes(saved)
        anew = here(*command, "--restart")
        assert anew.returncode == 0, anew.stderr
        assert "were made before" not in anew.stdout


def test_what_the_engine_cannot_hold_is_said_and_left_out(server: Server, tmp_path: Path) -> None:
    """An engine with room for one request runs no two at once: measured is what there is."""
    report = tmp_path / "report.json"
    with live(server, "small", places=1) as engine:
        done = here(*arguments(server, engine, tmp_path, "--engine-id", "small", "--json", str(report)))
    assert done.returncode == 0, done.stderr
    assert "The engine did not run 2 requests at context 64 at once" in done.stdout
    cells = stored(server, engine, report)
    assert {cell.requests for cell in cells} == {1}
    check_costs(cells, COSTS)


def test_an_engine_that_never_is_alone_is_not_measured(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every step has requests of others the command gives up, says so, and leaves no profile."""
    monkeypatch.setattr(survey, "_FOREIGN_PATIENCE", 3 * VISIT_STEPS)
    with (
        live(server, "crowded", capabilities=capabilities(2, max_batch=8)) as engine,
        Foreign(engine.url, pause=0.0),
        Foreign(engine.url, pause=0.0),
        Foreign(engine.url, pause=0.0),
    ):
        command = arguments(server, engine, tmp_path, "--engine-id", "crowded", "--max-requests", "2")
        done = here(*command)
        assert done.returncode == 1, done.stdout
        assert "turbospec profile: engine 'crowded' has too much other traffic" in done.stderr
        assert policy(server, "crowded") == "goodput"


def test_an_engine_that_does_not_follow_is_not_measured(server: Server, tmp_path: Path) -> None:
    """A cap by its operator keeps it from the lengths that are to be measured."""
    with live(server, "capped") as engine:
        selector = operations_pb2.EngineSelector(engine_id="capped")
        request = operations_pb2.SetCapRequest(engine=selector, max_length=0)
        server.operate.SetCap(request, timeout=PATIENCE_SECONDS)
        done = here(*arguments(server, engine, tmp_path, "--engine-id", "capped"))
    assert done.returncode == 1
    assert "engine 'capped' ran at length 0 where policy 'static:" in done.stderr
    assert "is there a cap on its lengths" in done.stderr
    assert "Engine 'capped' is under policy 'goodput' again." in done.stdout


def test_the_address_of_another_engine_is_noticed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that do not run in the engine that is controlled would measure nothing."""
    monkeypatch.setattr(survey, "_TELLTALE_SECONDS", 0.5)
    with live(server, "here"), live(server, "there") as there:
        done = here(*arguments(server, there, tmp_path, "--engine-id", "here"))
    assert done.returncode == 1
    assert f"requests that {there.url} answers are not in the steps of engine 'here'" in done.stderr


def test_why_an_engine_cannot_be_profiled_is_one_sentence(server: Server, tmp_path: Path) -> None:
    """Each obstacle is named, with what to do, before anything is changed."""

    def refusal(status: int, *more: str) -> str:
        done = here(*arguments(server, one, tmp_path, *more))
        assert done.returncode == status, done.stderr
        assert done.stderr.startswith("turbospec profile: ")
        assert done.stderr.count("\n") == 1
        assert policy(server, "one") == "goodput"
        return done.stderr

    def connected() -> set[str]:
        listed = server.look.ListEngines(introspection_pb2.ListEnginesRequest(), timeout=PATIENCE_SECONDS)
        return {engine.engine_id for engine in listed.engines if engine.connected}

    with live(server, "one") as one, live(server, "two", max_context=2048):
        # The sidecar may be late to notice that the engines of other tests have left.
        wait_until(lambda: connected() == {"one", "two"}, "alone")
        assert "say which with --engine-id: one, two" in refusal(1)
        assert "no engine 'three' has connected to the sidecar; it knows: " in refusal(
            1, "--engine-id", "three"
        )
        assert "is it the same engine?" in refusal(1, "--engine-id", "two")
        nobody = ("--engine-id", "one", "--engine-url", "http://127.0.0.1:9")
        assert "--engine-url: no engine answers at http://127.0.0.1:9" in refusal(1, *nobody)
        assert "--sidecar: no sidecar answers at 127.0.0.1:9" in refusal(1, "--sidecar", "127.0.0.1:9")
        assert "--max-requests: at most 2" in refusal(2, "--engine-id", "one", "--max-requests", "3")
        assert "--contexts: at most" in refusal(2, "--engine-id", "one", "--contexts", "4096")
        elsewhere = f"unix:{tmp_path / 'none.sock'}"
        assert "--operations: no sidecar answers at" in refusal(
            1, "--engine-id", "one", "--operations", elsewhere
        )
        selector = operations_pb2.EngineSelector(engine_id="one")
        for shadow in (True, False):
            request = operations_pb2.SetPolicyRequest(engine=selector, policy="goodput", shadow=shadow)
            server.operate.SetPolicy(request, timeout=PATIENCE_SECONDS)
            if shadow:
                assert "turbospec set-policy goodput --no-shadow" in refusal(1, "--engine-id", "one")

    wait_until(lambda: "one" not in connected(), "disconnected")
    assert "engine 'one' is not connected to the sidecar: disconnected for" in refusal(
        1, "--engine-id", "one"
    )


def test_without_a_store_a_file_is_asked_for_and_written(tmp_path: Path) -> None:
    """Nobody measures for an hour to learn that the result has no place."""
    server = Server(tmp_path)
    try:
        with live(server, "storeless", capabilities=capabilities(1, max_batch=1)) as engine:
            refused = here(*arguments(server, engine, tmp_path))
            assert refused.returncode == 2
            assert "--output: is needed, for this sidecar keeps no profiles" in refused.stderr
            output = tmp_path / "profile.json"
            done = here(*arguments(server, engine, tmp_path, "--output", str(output)))
            assert done.returncode == 0, done.stderr
        shown = here("profiles", "show", str(output))
        assert shown.returncode == 0, shown.stderr
        assert "sweep" in shown.stdout
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-requests", "0"], "argument --max-requests: must be a whole number from 1 to 65536"),
        (["--contexts", "64,x"], "argument --contexts: must be a whole number from 1"),
        (["--contexts", ",".join(map(str, range(1, 18)))], "argument --contexts: at most 16 lengths, got 17"),
        (["--prefill", "64,x"], "argument --prefill: must be a whole number from 0"),
        (["--prefill", "1,2,3,4,5,6,7,8,9"], "argument --prefill: at most 8 lengths, got 9"),
        (["--repeats", "2"], "argument --repeats: must be a whole number from 3 to 100"),
        (["--picture", "p.gif"], "argument --picture: must end in .png or .svg"),
        (["--json", "/nowhere/at/all"], "argument --json: /nowhere/at is not a directory"),
        (["--engine-url", "127.0.0.1:8000"], "argument --engine-url: expected http://host:port"),
        (["--sidecar", "nowhere"], "--sidecar: address 'nowhere'"),
    ],
)
def test_a_bad_option_is_named_with_its_limit(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is asked of anybody."""
    with pytest.raises(SystemExit, match="2"):
        main(["profile", "--engine-url", "http://127.0.0.1:9", *options])
    assert message in capsys.readouterr().err
