"""Child processes end with whoever started them, however that happens."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.patience import PATIENCE_SECONDS, Watch, wait_until
from turbospec.engines import processes
from turbospec.engines.keeper import GRACE_SECONDS
from turbospec.engines.processes import Child, Children, ProcessFailedError, free_port, responds

pytestmark = pytest.mark.usefixtures("_subprocesses_see_the_tree")

# A command with a worker, both of which ignore SIGTERM: the worst that an engine can be.
_STUBBORN = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pid = os.fork()
pathlib.Path(sys.argv[1], "worker" if pid == 0 else "command").write_text(str(os.getpid()))
time.sleep(600)
"""
_OBEDIENT = _STUBBORN.replace("signal.SIG_IGN", "signal.SIG_DFL")
_ASKER = """
import pathlib, sys, time
from turbospec.engines.processes import Children
with Children(pathlib.Path(sys.argv[1])) as children:
    children.start("engine", [sys.executable, "-c", sys.argv[2], sys.argv[1]], {})
    time.sleep(600)
"""


def _pids(directory: Path) -> list[int]:
    files = [directory / "command", directory / "worker"]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files), "started")
    return [int(file.read_text()) for file in files]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a zombie only waits for its parent to look


def _assert_gone(pids: list[int]) -> None:
    """A process that was killed is gone when the kernel gets to it."""
    wait_until(lambda: not any(map(_alive, pids)), "gone")


def test_temporary_files_go_with_the_block(tmp_path: Path) -> None:
    """Sockets that an engine's processes leave behind, for example."""
    leave = "import sys, tempfile; print(tempfile.mkstemp()[1], flush=True)"
    with Children(tmp_path) as children:
        children.start("engine", [sys.executable, "-c", leave], {}).wait_done()
        left = Path((tmp_path / "engine.log").read_text().strip())
        assert left.exists()
    assert not left.exists()
    assert not left.parent.exists()


@pytest.mark.parametrize(
    ("program", "obeys", "grace"), [(_OBEDIENT, True, GRACE_SECONDS), (_STUBBORN, False, 0.5)]
)
def test_leaving_the_block_ends_the_whole_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, obeys: bool, grace: float
) -> None:
    """The command and its workers are ended with the block, and only those that do not obey get a grace."""
    monkeypatch.setattr(processes, "GRACE_SECONDS", grace)
    with ExitStack() as stack:
        children = stack.enter_context(Children(tmp_path))
        children.start("engine", [sys.executable, "-c", program, str(tmp_path)], {})
        pids = _pids(tmp_path)
        assert all(map(_alive, pids))
        began = time.monotonic()
        with Watch() as watch:
            stack.close()
    ended = time.monotonic() - began
    _assert_gone(pids)
    if obeys:
        assert watch.seconds < grace
    else:
        assert ended >= grace


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_signal_to_the_asker_leaves_children(tmp_path: Path, number: signal.Signals) -> None:
    """Even when the asking process is killed outright, nothing it started stays."""
    asker = subprocess.Popen(
        [sys.executable, "-c", _ASKER, str(tmp_path), _OBEDIENT], stderr=subprocess.DEVNULL
    )
    pids = _pids(tmp_path)
    asker.send_signal(number)
    asker.wait(PATIENCE_SECONDS)
    _assert_gone(pids)


def test_stubborn_children_of_a_killed_asker_are_killed(tmp_path: Path) -> None:
    """What ignores SIGTERM is killed after the grace, though nobody is left who asked for it."""
    asker = subprocess.Popen([sys.executable, "-c", _ASKER, str(tmp_path), _STUBBORN])
    pids = _pids(tmp_path)
    asker.kill()
    asker.wait()
    _assert_gone(pids)


def test_a_failed_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    """Whoever sees the error sees why, without looking for a file."""
    with Children(tmp_path) as children:
        argv = [sys.executable, "-c", "print('line', 1); raise SystemExit('cannot load the model')"]
        child = children.start("engine", argv, {})
        with pytest.raises(
            ProcessFailedError, match=r"(?s)engine ended with status 1.*cannot load the model"
        ):
            child.wait_until(lambda: False, PATIENCE_SECONDS)


def test_waiting_has_an_end(tmp_path: Path) -> None:
    """A child that never becomes ready is an error when time is up."""
    with Children(tmp_path) as children:
        child = children.start("engine", ["sleep", "600"], {})
        with pytest.raises(ProcessFailedError, match="engine is not ready after 0 s"):
            child.wait_until(lambda: False, 0.2)


def test_the_environment_is_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child gets the given variables beside those of its asker."""
    monkeypatch.setenv("OWN", "too")
    child = Child("engine", ["sh", "-c", "echo $GIVEN $OWN"], {"GIVEN": "yes"}, tmp_path / "log")
    with pytest.raises(ProcessFailedError, match="yes too"):
        child.wait_until(lambda: False, PATIENCE_SECONDS)
    child.stop()


def test_responds_tells_a_healthy_server_from_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Health is asked directly, not through a proxy that the environment names."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    url = f"http://127.0.0.1:{(port := free_port())}"
    assert not responds(url)
    with Children(tmp_path) as children:
        serve = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "-d", str(tmp_path), str(port)]
        children.start("server", serve, {}).wait_until(lambda: responds(url), PATIENCE_SECONDS)
        assert not responds(f"{url}/missing")
